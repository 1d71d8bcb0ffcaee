"""What sources of labelled images share: options, and checks against the data set's own classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from pmqbench.tasks.sources.base import COMPARED, IMAGES, UNCHECKED, WORDS
from pmqbench.tasks.sources.parts import SplitSource

if TYPE_CHECKING:
    import numpy as np

    from pmqbench.tasks.definitions import Task
    from pmqbench.tasks.splits import ImageStream


class StoredImages(Protocol):
    """The labelled images of a split as they are stored; `files` are the tables, or the folder."""

    files: Sequence[Path]

    def class_names(self) -> Sequence[str] | None:
        """Names of the classes in label order where the data set tells them, else None."""

    def labels_are_words(self) -> bool:
        """Whether labels are class names themselves."""

    def labels(self, classnames: Sequence[str]) -> np.ndarray:
        """Labels of all images, int64 (n,)."""

    def images(self, rows: np.ndarray) -> Iterator[tuple[bytes | Path, str]]:
        """Stored images of the given rows (ascending) and their places."""


@dataclass(frozen=True, kw_only=True)
class LabelledImages(SplitSource):
    """Images with a label each."""

    yields = IMAGES
    image: Annotated[str, Field(description="Column of the images.")] = "image"
    label: Annotated[str, Field(description="Column of the labels: numbers from 0, or class names.")] = "label"
    image_size: Annotated[
        int, Field(ge=1, description="Side of the images after resize and crop, pixels; the model's own.")
    ] = 224

    @abstractmethod
    def table(self, split: str, where: str) -> StoredImages:
        """The examples of the split that the data set calls `split`."""

    def split(self, task: Task, split: str) -> tuple[ImageStream, np.ndarray]:
        """Images, decoded as they are read, and labels."""
        from pmqbench.tasks.images import batches
        from pmqbench.tasks.splits import ImageStream
        from pmqbench.tasks.tables import check_classes

        table = self._opened(task, split)
        found = table.class_names()
        if found is not None:
            check_classes(found, task.classnames, f"task {task.name}, split {split}")
        labels = table.labels(task.classnames)
        rows = self.chosen_rows(task, split, len(labels))
        shape = (len(rows), 3, self.image_size, self.image_size)
        return ImageStream(shape, batches(table.images(rows), self.image_size)), labels[rows]

    def files_of(self, task: Task, split: str) -> Sequence[Path]:
        """The split's tables, or its folder."""
        return self._opened(task, split).files

    def label_check(self, task: Task, split: str) -> str:
        """COMPARED where the data set's features, WORDS where the labels themselves tell the class names, else UNCHECKED."""
        table = self._opened(task, split)
        if table.class_names() is not None:
            return COMPARED
        return WORDS if table.labels_are_words() else UNCHECKED

    @cached_property
    def _tables(self) -> dict[tuple[str, str], Any]:
        return {}

    def _opened(self, task: Task, split: str) -> StoredImages:
        """The split as it is stored, looked for once."""
        key = task.name, split
        if key not in self._tables:
            self._tables[key] = self.table(self.stored_split(split), f"task {task.name}, split {split}")
        return self._tables[key]
