"""Labelled images from a local folder: one folder per class, or parquet or arrow files. Anyone's own task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pmqbench.errors import DataError
from pmqbench.files import hash8
from pmqbench.tasks.sources.base import DATA_SOURCES
from pmqbench.tasks.sources.labelled import LabelledImages

if TYPE_CHECKING:
    import numpy as np

    from pmqbench.tasks.definitions import Task

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@DATA_SOURCES.register("local")
@dataclass(frozen=True, kw_only=True)
class LocalImages(LabelledImages):
    """A folder with `<split>/<class>/*.png`, or with tables: `<split>.parquet`, shards of it, or arrow files."""

    path: Annotated[str, Field(min_length=1, description="The folder, absolute or from where Snakemake runs.")]

    def state(self) -> Any:
        """See DataSource: a hash of names, sizes and times, so that a changed file is read again."""
        return _state(self._folder())

    def table(self, task: Task, split: str, where: str) -> Any:
        """See LabelledImages."""
        from pmqbench.tasks.tables import Table, shards

        folder = self._folder()
        if not folder.is_dir():
            raise DataError(f'there is no folder "{folder}".', where=where, remedy="Check `path` of the task's source.")
        files = shards([path.relative_to(folder).as_posix() for path in folder.rglob("*")], split)
        if files:
            return Table([folder / name for name in files], self.image, self.label, where)
        return ImageFolder(folder / split, where)

    def _folder(self) -> Path:
        return Path(self.path).expanduser().resolve()


@dataclass(frozen=True)
class ImageFolder:
    """`<class>/<image>` below a folder, with the methods of `tables.Table`; folders are called like the task's classes."""

    folder: Path
    where: str

    def class_names(self) -> None:
        """Folders have no order to check; `labels` finds each by its name."""
        return

    def labels(self, classnames: Sequence[str]) -> np.ndarray:
        """Labels of all images in the order of `_files`, int64 (n,)."""
        import numpy as np

        index = {name: i for i, name in enumerate(classnames)} | {
            name.replace(" ", "_"): i for i, name in enumerate(classnames)
        }
        if not self.folder.is_dir():
            what = f'there is neither a folder "{self.folder}" nor a table of this split.'
            raise DataError(what, where=self.where, remedy="Put images into <split>/<class>/, or set `splits` of the source.")
        folders = sorted(path.name for path in self.folder.iterdir() if path.is_dir())
        foreign = [name for name in folders if name not in index]
        lacking = [name for name in classnames if index[name] not in {index[folder] for folder in folders if folder in index}]
        if foreign or lacking:
            what = f'folder "{foreign[0]}" is no class of the task.' if foreign else f'class "{lacking[0]}" has no folder.'
            raise DataError(what, where=self.where, remedy="Each class is one folder, called like its class name.")
        return np.array([index[path.parent.name] for path in self._files()], dtype=np.int64)

    def images(self, rows: np.ndarray) -> Iterator[tuple[Path, str]]:
        """Files of the given rows and their places."""
        files = self._files()
        return ((files[row], f"{self.where}, {files[row]}") for row in rows.tolist())

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*/*") if path.suffix.lower() in IMAGES)


@cache
def _state(folder: Path) -> str:
    files = [(path.relative_to(folder).as_posix(), path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return hash8([(name, status.st_size, status.st_mtime_ns) for name, status in files])
