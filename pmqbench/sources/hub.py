"""Models from the Hugging Face hub: weights and config, for the base also tokenizer and preprocessor, linked from its cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.files import hash8, read_json
from pmqbench.hub import Repo, check_id, fetch
from pmqbench.sources.base import CARD, SOURCES, stated_license

if TYPE_CHECKING:
    from pmqbench.recipes import Suite
    from pmqbench.tasks.definitions import Task

KNOWN_CONFIGS = Path(__file__).with_name("hub_configs.json")


@SOURCES.register("hub")
@dataclass(frozen=True, kw_only=True)
class HubModels:
    """Repositories of the hub, pinned by commit."""

    id: Annotated[str, Field(min_length=1, description='owner/name; "{task}" stands for the task\'s name (experts).')]
    revision: Annotated[
        str | None,
        Field(description="Commit sha (best), branch or tag of every repository; null: the default branch as it is."),
    ] = None
    revisions: Annotated[dict[str, str], Field(description="Task -> revision, before `revision` (experts).")] = field(
        default_factory=dict
    )

    trains: ClassVar[bool] = False
    code: ClassVar[str] = "pmqbench.sources.hub"

    def check(self, names: Sequence[str], family: Any, where: str) -> None:
        """Refuses impossible names; no request is made."""
        if len(names) > 1 and "{task}" not in self.id:
            raise ConfigError(f'"{self.id}" is one repository.', where=f"{where}.id", remedy='Write "{task}" for the task.')
        for name in names:
            check_id(self.repository(name).id, f"{where}.id")
        for name in self.revisions:
            if name not in names:
                what = f'"{name}" is no task of this suite.'
                raise ConfigError(what, where=f"{where}.revisions", remedy=did_you_mean(name, names))

    def base_id(self, suite: Suite) -> str:
        """The repository's name, and a hash of it and its revision."""
        return self._id(self.repository(""), suite.family)

    def expert_id(self, suite: Suite, task: Task) -> str:
        """As the base's; the hash covers the base too, whose side files the expert may get."""
        return self._id(self.repository(task.name), suite.family, suite.base_id)

    def place(self, task: str) -> str:
        """The repository, at its revision."""
        return str(self.repository(task))

    def downloads(self, task: str) -> bool:
        """All of them."""
        return True

    def model_config(self, family: Any) -> Mapping[str, Any] | None:
        """Of the well-known bases, so that group sizes are checked before a download."""
        return read_json(KNOWN_CONFIGS).get(self.id)

    def fetch_base(self, folder: Path, family: Any, data: Mapping[str, Path], tasks: tuple[Task, ...]) -> dict[str, str]:
        """Also the side files, and the licence from the repository's card."""
        return self._fetch("", folder, family)

    def fetch_expert(
        self, folder: Path, family: Any, task: Task, base: Path, data: Path | None, head: Path | None
    ) -> dict[str, str]:
        """Also what must be like the base's, where the repository has it."""
        return self._fetch(task.name, folder, family)

    def repository(self, task: str) -> Repo:
        """The repository of a task's expert, or of the base ("")."""
        return Repo(self.id.replace("{task}", task), revision=self.revisions.get(task, self.revision))

    def _id(self, repo: Repo, *made_for: str) -> str:
        return f"{repo.id.replace('/', '-')}-{hash8([*made_for, repo.id, repo.revision])}"

    def _fetch(self, task: str, folder: Path, family: Any) -> dict[str, str]:
        repo = self.repository(task)

        def choose(names: Sequence[str], _: Any) -> list[str]:
            card = [CARD] if not task and CARD in names else []
            return family.needed(names, base=not task, where=str(repo)) + card

        snapshot = fetch(repo, choose)
        files = dict(snapshot.files)
        license_name = stated_license(files.pop(CARD, None))
        family.bring(files, folder, base=not task)
        return {"repository": repo.id, "commit": snapshot.commit} | ({"license": license_name} if license_name else {})
