"""Labelled images from a local folder: one folder per class, or parquet or arrow files. Anyone's own task."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pmqbench.errors import DataError, listed
from pmqbench.files import hash8
from pmqbench.tasks.sources.base import DATA_SOURCES
from pmqbench.tasks.sources.labelled import LabelledImages, StoredImages
from pmqbench.tasks.sources.parts import check_folder

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@DATA_SOURCES.register("local")
@dataclass(frozen=True, kw_only=True)
class LocalImages(LabelledImages):
    """A folder with `<split>/<class>/*.png`, or with tables: `<split>.parquet`, shards of it, or arrow files."""

    path: Annotated[str, Field(min_length=1, description="The folder, absolute or from where Snakemake runs.")]

    def check(self, where: str) -> None:
        """Also refuses a folder that is not there."""
        super().check(where)
        check_folder(self._folder(), where)

    def state(self) -> Any:
        """A hash of folders' times and of tables' sizes and times, so that what is added, removed, replaced or renamed is read
        again. Not of each image's: there may be millions, and this is asked whenever Snakemake or one of its jobs starts.
        """
        return _state(self._folder())

    def table(self, split: str, where: str) -> StoredImages:
        """The split's tables, or its folder of images."""
        from pmqbench.tasks.shards import shards
        from pmqbench.tasks.tables import Table

        folder = self._folder()
        names = [path.relative_to(folder).as_posix() for path in files_below(folder)]
        tables = shards(names, split, where)
        if not tables:
            if not (folder / split).is_dir():
                what = f'there is neither a folder "{folder / split}" nor a table of this split.'
                remedy = "Put images into <split>/<class>/, or set `splits` of the source."
                raise DataError(what, where=where, remedy=remedy)
            return ImageFolder(folder / split, where)
        images = [name for name in names if name.startswith(f"{split}/") and name.lower().endswith(IMAGES)]
        if images:
            message = "%s: the split is read from %s; the %d images below %s/ count only where a table names them."
            log.warning(message, where, listed(tables), len(images), split)
        return Table([folder / name for name in tables], self.image, self.label, where, paths=True)

    def _folder(self) -> Path:
        return Path(self.path).expanduser().resolve()


@dataclass(frozen=True)
class ImageFolder:
    """`<class>/<image>` below a folder; folders are called like the task's classes."""

    folder: Path
    where: str

    @property
    def files(self) -> list[Path]:
        """The folder."""
        return [self.folder]

    def class_names(self) -> None:
        """None: folders have no order to compare."""
        return

    def labels_are_words(self) -> bool:
        """True: the folders' names are class names."""
        return True

    def labels(self, classnames: Sequence[str]) -> np.ndarray:
        """Labels of all images, int64 (n,).

        Raises:
            DataError: a folder is no class, a class has no folder, or an image lies elsewhere.
        """
        import numpy as np

        underscored = Counter(name.replace(" ", "_") for name in classnames)
        index = {n.replace(" ", "_"): i for i, n in enumerate(classnames) if underscored[n.replace(" ", "_")] == 1}
        index |= {name: i for i, name in enumerate(classnames)}
        folders = sorted(path.name for path in self.folder.iterdir() if path.is_dir())
        foreign = [name for name in folders if name not in index]
        lacking = [name for name in classnames if index[name] not in {index[folder] for folder in folders if folder in index}]
        if foreign or lacking:
            what = f'folder "{foreign[0]}" is no class of the task.' if foreign else f'class "{lacking[0]}" has no folder.'
            raise DataError(what, where=self.where, remedy="Each class is one folder, called like its class name.")
        return np.array([index[path.parent.name] for path in self._images], dtype=np.int64)

    def images(self, rows: np.ndarray) -> Iterator[tuple[Path, str]]:
        """Files of the given rows and their places."""
        return ((self._images[row], f"{self.where}, {self._images[row]}") for row in rows.tolist())

    @cached_property
    def _images(self) -> list[Path]:
        """The images, sorted; other files are counted in a warning, images that lie elsewhere are an error."""
        names = [path.relative_to(self.folder) for path in files_below(self.folder)]
        shown = [name for name in names if not any(part.startswith(".") for part in name.parts[1:] or name.parts)]
        images = [name for name in shown if name.suffix.lower() in IMAGES]
        others = [name for name in shown if name.suffix.lower() not in IMAGES]
        astray = [name for name in images if len(name.parts) != 2]
        if astray:
            what = f"{len(astray)} images do not lie directly in a class's folder: {listed(astray)}."
            raise DataError(what, where=self.where, remedy=f"Move them into {self.folder}/<class>/, or remove them.")
        if others:
            endings = Counter(name.suffix.lower() or "no ending" for name in others)
            counts = ", ".join(f"{count} {ending}" for ending, count in endings.most_common())
            message = "%s: %d files are no images by their ending (%s) and are left out: %s. Images end in %s."
            log.warning(message, self.where, len(others), counts, listed(others), ", ".join(IMAGES))
        return [self.folder / name for name in sorted(images)]


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted; links to folders are followed, unless they lead back to a folder above."""
    return sorted(inner / name for inner, names in folders_below(folder) for name in names)


def folders_below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[Path, list[str]]]:
    """A folder and every folder below it, each with the names of its own files, sorted; as `files_below`.

    What is a folder the listing itself tells: no file is looked at.
    """
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as listing:
        entries = sorted((entry.name, _is_folder(entry)) for entry in listing)
    yield folder, [name for name, is_folder in entries if not is_folder]
    for name, is_folder in entries:
        if is_folder and os.path.realpath(folder / name) not in above:
            yield from folders_below(folder / name, above)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


@cache
def _state(folder: Path) -> str:
    found = []
    for inner, names in folders_below(folder):
        tables = [inner / name for name in names if not name.lower().endswith(IMAGES)]
        found += [(path.relative_to(folder).as_posix(), *_stamp(path)) for path in (inner, *filter(Path.is_file, tables))]
    return hash8(found)


def _stamp(path: Path) -> tuple[int, int]:
    """Of a file its size and time, of a folder its time: it changes with the names in it."""
    status = path.stat()
    return 0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns
