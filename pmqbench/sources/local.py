"""Models from local folders, or bare safetensors files, in the family's own layout: anyone's base and experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from pmqbench.errors import ConfigError, DataError
from pmqbench.families.base import FAMILIES
from pmqbench.families.files import read_object
from pmqbench.files import hash8
from pmqbench.sources.base import CARD, SOURCES, stated_license

if TYPE_CHECKING:
    from pmqbench.recipes import Suite
    from pmqbench.tasks.definitions import Task


@SOURCES.register("local")
@dataclass(frozen=True, kw_only=True)
class LocalFolders:
    """Folders on this machine; they are linked, not copied, and read again when a file changes."""

    path: Annotated[
        str, Field(min_length=1, description='Folder, or .safetensors file; "{task}" stands for the task\'s name (experts).')
    ]
    config: Annotated[
        str | None, Field(description="Config file of bare .safetensors files; the config beside the weights by default.")
    ] = None

    trains: ClassVar[bool] = False
    code: ClassVar[str] = "pmqbench.sources.local"

    def check(self, names: Sequence[str], family: Any, where: str) -> None:
        """Every task needs a place of its own, and every place must hold weights and config."""
        if len(names) > 1 and "{task}" not in self.path:
            raise ConfigError(f'"{self.path}" is one model.', where=f"{where}.path", remedy='Write "{task}" for the task.')
        for name in names:
            place = self._place(name)
            if not place.exists():
                kind = "file" if place.suffix == ".safetensors" else "folder"
                what = f'there is no {kind} "{place}".'
                raise ConfigError(what, where=f"{where}.path", remedy="Give a folder that holds weights and config.")
            try:
                self._files(name, family, base=name == "")
            except DataError as error:
                what = error.what.replace("there is no", f'folder "{place}" has no', 1)
                raise ConfigError(what, where=f"{where}.path", remedy=error.remedy) from error

    def base_id(self, suite: Suite) -> str:
        """The role, and a hash of what the base is read from."""
        return f"local-base-{hash8(self._read_from(suite, ''))}"

    def expert_id(self, suite: Suite, task: Task) -> str:
        """The task, and a hash of what its expert is read from, and of the base, whose side files it may get."""
        return f"local-{task.name}-{hash8([suite.base_id, *self._read_from(suite, task.name)])}"

    def place(self, task: str) -> str:
        """The folder or file itself."""
        return str(self._place(task))

    def downloads(self, task: str) -> bool:
        """None."""
        return False

    def model_config(self, family: Any) -> Mapping[str, Any]:
        """Of the folder's config files, the one that goes with the weights that the family takes."""
        files = self._files("", family, base=True)
        return read_object(files[family.config_name(files)])

    def fetch_base(self, folder: Path, family: Any, data: Mapping[str, Path], tasks: tuple[Task, ...]) -> Mapping[str, str]:
        """Also the side files, and the licence from a card."""
        family.bring(self._files("", family, base=True), folder, base=True)
        stated = stated_license(self._place("") / CARD)
        return {"license": stated} if stated else {}

    def fetch_expert(self, folder: Path, family: Any, task: Task, base: Path, data: Path | None, head: Path | None) -> None:
        """Also what must be like the base's, where it is there."""
        family.bring(self._files(task.name, family, base=False), folder, base=False)

    def _place(self, task: str) -> Path:
        return Path(self.path.replace("{task}", task)).expanduser().resolve()

    def _files(self, task: str, family: Any, base: bool) -> dict[str, Path]:
        """The model's files by the names that the family gives them."""
        place = self._place(task)
        if place.is_dir():
            found = {path.name: path for path in place.iterdir() if path.is_file()}
        else:
            config = Path(self.config).expanduser().resolve() if self.config else place.with_name(family.config_file)
            beside = [path for path in config.parent.glob("*") if path.is_file() and path.suffix != ".safetensors"]
            found = {path.name: path for path in beside} | {family.weights_file: place}
            found |= {family.config_file: config} if config.is_file() else {}
        return {name: found[name] for name in family.needed(found, base, str(place))}

    def _read_from(self, suite: Suite, task: str) -> list[Any]:
        """Path, sizes and times: they show a change without reading gigabytes at every start."""
        paths = self._files(task, FAMILIES.get(suite.family)(), base=not task)
        card = self._place("") / CARD
        if not task and card.is_file():
            paths[CARD] = card
        return [suite.family, self.path, [(name, *_stamp(paths[name])) for name in sorted(paths)]]


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
