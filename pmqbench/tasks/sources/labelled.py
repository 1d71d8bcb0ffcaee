"""What sources of labelled images share: options, and checks against the data set's own classes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pmqbench.tasks.sources.parts import SplitSource

if TYPE_CHECKING:
    import numpy as np

    from pmqbench.tasks.definitions import Task
    from pmqbench.tasks.splits import ImageStream


@dataclass(frozen=True, kw_only=True)
class LabelledImages(SplitSource):
    """Images with a label each."""

    image: Annotated[str, Field(description="Column of the images.")] = "image"
    label: Annotated[str, Field(description="Column of the labels: numbers from 0, or class names.")] = "label"
    image_size: Annotated[
        int, Field(ge=1, description="Side of the images after resize and crop, pixels; the model's own.")
    ] = 224

    @abstractmethod
    def table(self, task: Task, split: str, where: str) -> Any:
        """The examples of the split that the data set calls `split`: a `tables.Table`, or what has its methods."""

    def split(self, task: Task, split: str) -> tuple[ImageStream, np.ndarray]:
        """See DataSource."""
        from pmqbench.tasks.images import batches
        from pmqbench.tasks.splits import ImageStream
        from pmqbench.tasks.tables import check_classes

        stored = self.stored_split(task, split)
        where = f"task {task.name}, split {split}"
        table = self.table(task, stored, where)
        found = table.class_names()
        if found is not None:
            check_classes(found, task.classnames, where)
        labels = table.labels(task.classnames)
        rows = self.chosen_rows(task, split, len(labels))
        shape = (len(rows), 3, self.image_size, self.image_size)
        return ImageStream(shape, batches(table.images(rows), self.image_size)), labels[rows]
