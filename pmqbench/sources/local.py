"""Models from local folders in the family's own layout: anyone's base and experts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from pmqbench.errors import ConfigError
from pmqbench.files import atomic_path, hash8, read_json
from pmqbench.sources.base import SOURCES

if TYPE_CHECKING:
    from pmqbench.recipes import Suite
    from pmqbench.tasks.definitions import Task


@SOURCES.register("local")
@dataclass(frozen=True, kw_only=True)
class LocalFolders:
    """Folders on this machine; they are linked, not copied, and read again when a file changes."""

    path: Annotated[str, Field(min_length=1, description='Folder; "{task}" stands for the task\'s name (experts).')]

    trains: ClassVar[bool] = False
    code: ClassVar[str] = "pmqbench.sources.local"

    def check(self, names: Sequence[str], family: Any, where: str) -> None:
        """See Source: every folder must hold weights and config."""
        for folder in [self._folder(name) for name in names]:
            for name in (family.weights_file, family.config_file):
                if not (folder / name).is_file():
                    what = f'folder "{folder}" has no {name}.' if folder.is_dir() else f'there is no folder "{folder}".'
                    raise ConfigError(what, where=f"{where}.path", remedy="Give a folder that holds weights and config.")

    def base_id(self, suite: Suite) -> str:
        """See Source."""
        return self._id(suite, self._folder(""), "base")

    def expert_id(self, suite: Suite, task: Task) -> str:
        """See Source."""
        return self._id(suite, self._folder(task.name), task.name)

    def model_config(self) -> Mapping[str, Any] | None:
        """See Source: read from the folder (only a base has one folder)."""
        configs = sorted(self._folder("").glob("*config.json"))
        return read_json(configs[0]) if configs else None

    def fetch_base(self, folder: Path, family: Any, data: Mapping[str, Path], tasks: tuple[Task, ...], threads: int) -> None:
        """See Source."""
        self._link(self._folder(""), folder, family)
        for name in family.base_files:
            if (self._folder("") / name).is_file():
                _link_file(self._folder("") / name, folder / name)

    def fetch_expert(
        self, folder: Path, family: Any, task: Task, base: Path | None, data: Path | None, head: Path | None, threads: int
    ) -> None:
        """See Source."""
        self._link(self._folder(task.name), folder, family)

    def _folder(self, task: str) -> Path:
        return Path(self.path.replace("{task}", task)).expanduser().resolve()

    def _id(self, suite: Suite, folder: Path, role: str) -> str:
        """The model's role and a hash of path as given, sizes and times: shows a change without reading gigabytes at every start."""
        files = [(file.name, *_stamp(file)) for file in sorted(folder.glob("*")) if file.is_file()]
        return f"local-{role}-{hash8([suite.family, self.path, files])}"

    def _link(self, source: Path, target: Path, family: Any) -> None:
        for name in (family.weights_file, family.config_file):
            _link_file(source / name, target / name)


def _link_file(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        os.symlink(source, temporary)


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
