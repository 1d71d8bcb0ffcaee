"""Experts of which each has a place of its own, on this machine or on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.sources.base import SOURCES, source_of
from pmqbench.sources.hub import HubModels
from pmqbench.sources.local import LocalFolders

if TYPE_CHECKING:
    from pmqbench.recipes import Suite
    from pmqbench.tasks.definitions import Task


@SOURCES.register("each")
@dataclass(frozen=True, kw_only=True)
class EachItsOwn:
    """One source for each task: local, or hub."""

    of: Annotated[
        dict[str, dict[str, Any]],
        Field(description="Task -> {source: local, path} or {source: hub, id} of its expert.", min_length=1),
    ]

    trains: ClassVar[bool] = False
    code: ClassVar[str] = "pmqbench.sources.each"

    @cached_property
    def sources(self) -> dict[str, HubModels | LocalFolders]:
        """Task -> source; ConfigError for another kind of source."""
        found = {task: source_of(options, f"experts.of.{task}") for task, options in self.of.items()}
        for task, source in found.items():
            if not isinstance(source, HubModels | LocalFolders):
                what = f'"{SOURCES.name_of(type(source))}" is no place of one expert.'
                raise ConfigError(what, where=f"experts.of.{task}.source", remedy="Use local or hub.")
        return found

    def check(self, names: Sequence[str], family: Any, where: str) -> None:
        """Every task needs a source, and none may stand for another task; each source checks its own place."""
        if names == [""]:
            raise ConfigError(
                '"each" has a place for each expert; a base has one.', where=f"{where}.source", remedy="Use local or hub."
            )
        for name in self.of:
            if name not in names:
                what = f'"{name}" is no task of this suite.'
                raise ConfigError(what, where=f"{where}.of", remedy=did_you_mean(name, names))
        for name in names:
            if name not in self.sources:
                raise ConfigError(f'task "{name}" has no expert.', where=f"{where}.of", remedy="Give it a source.")
            self.sources[name].check([name], family, f"{where}.of.{name}")

    def expert_id(self, suite: Suite, task: Task) -> str:
        """As the task's own source has it, behind the task's name: two tasks may have one repository."""
        return f"{task.name}-{self.sources[task.name].expert_id(suite, task)}"

    def place(self, task: str) -> str:
        """As the task's own source has it."""
        return self.sources[task].place(task)

    def downloads(self, task: str) -> bool:
        """As the task's own source does."""
        return self.sources[task].downloads(task)

    def fetch_expert(
        self, folder: Path, family: Any, task: Task, base: Path, data: Path | None, head: Path | None
    ) -> Mapping[str, str] | None:
        """As the task's own source does."""
        return self.sources[task.name].fetch_expert(folder, family, task, base, data, head)
