"""What sources of labelled images share: options, checks against the data set's own classes, and the splits of a task."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pmqbench.errors import DataError, did_you_mean
from pmqbench.tasks.sources.base import DataSource

if TYPE_CHECKING:
    import numpy as np

    from pmqbench.tasks.definitions import Task
    from pmqbench.tasks.splits import ImageStream


@dataclass(frozen=True, kw_only=True)
class LabelledImages(DataSource):
    """Images with a label each, in splits. Calibration sees the training split alone, and none of what serves as validation."""

    splits: Annotated[
        dict[str, str],
        Field(description="train, test and, where there is one, validation -> what the data set calls it."),
    ] = field(default_factory=lambda: {"train": "train", "test": "test"})
    image: Annotated[str, Field(description="Column of the images.")] = "image"
    label: Annotated[str, Field(description="Column of the labels: numbers from 0, or class names.")] = "label"
    image_size: Annotated[
        int, Field(ge=1, description="Side of the images after resize and crop, pixels; the model's own.")
    ] = 224
    train_examples: Annotated[
        int, Field(ge=1, description="Training examples kept, drawn once; calibration draws its samples from these.")
    ] = 2048
    validation_examples: Annotated[
        int,
        Field(ge=1, description="Validation examples kept; without a validation split, a tenth of the training split at most."),
    ] = 1000

    @abstractmethod
    def table(self, task: Task, split: str, where: str) -> Any:
        """The examples of the split that the data set calls `split`: a `tables.Table`, or what has its methods."""

    def split(self, task: Task, split: str) -> tuple[ImageStream, np.ndarray]:
        """See DataSource."""
        import numpy as np

        from pmqbench.tasks.images import batches
        from pmqbench.tasks.sampling import carve, keep
        from pmqbench.tasks.splits import ImageStream
        from pmqbench.tasks.tables import check_classes

        stored = self._stored_split(task, split)
        where = f"task {task.name}, split {split}"
        table = self.table(task, stored, where)
        found = table.class_names()
        if found is not None:
            check_classes(found, task.classnames, where)
        labels = table.labels(task.classnames)
        carved = carve(len(labels), self.validation_examples, task.name)
        if split == "test":
            rows = np.arange(len(labels))
        elif split == "validation":
            rows = keep(len(labels), self.validation_examples, task.name) if "validation" in self.splits else carved
        else:
            skipped = None if "validation" in self.splits else carved
            rows = keep(len(labels), self.train_examples, task.name, skipped)
        shape = (len(rows), 3, self.image_size, self.image_size)
        return ImageStream(shape, batches(table.images(rows), self.image_size)), labels[rows]

    def _stored_split(self, task: Task, split: str) -> str:
        """What the data set calls the split; validation is carved out of train where there is none."""
        for name in self.splits:
            if name not in ("train", "validation", "test"):
                remedy = did_you_mean(name, ("train", "validation", "test"))
                raise DataError(f'unknown split "{name}".', where=f"task {task.name}: source.splits", remedy=remedy)
        missing = sorted({"train", "test"} - self.splits.keys())
        if missing:
            remedy = f"Say what the data set calls it: splits: {{{missing[0]}: ...}}."
            raise DataError(f"there is no split for {missing[0]}.", where=f"task {task.name}: source.splits", remedy=remedy)
        return self.splits.get(split) or self.splits["train"]
