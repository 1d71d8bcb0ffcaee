"""What sources of data sets with splits share: which rows of a data set make a task's splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pmqbench.errors import DataError, did_you_mean
from pmqbench.tasks.sources.base import DataSource

if TYPE_CHECKING:
    import numpy as np

    from pmqbench.tasks.definitions import Task


@dataclass(frozen=True, kw_only=True)
class SplitSource(DataSource):
    """Examples in splits. Calibration only ever sees the training split, and none of what serves as validation."""

    splits: Annotated[
        dict[str, str],
        Field(description="train, test and, where there is one, validation -> what the data set calls it."),
    ] = field(default_factory=lambda: {"train": "train", "test": "test"})
    train_examples: Annotated[
        int, Field(ge=1, description="Training examples kept, drawn once; calibration draws its samples from these.")
    ] = 2048
    validation_examples: Annotated[
        int,
        Field(ge=1, description="Validation examples kept; without a validation split, a tenth of the training split at most."),
    ] = 1000

    def stored_split(self, task: Task, split: str) -> str:
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

    def chosen_rows(self, task: Task, split: str, count: int) -> np.ndarray:
        """Those of the stored split's `count` rows that the task's split keeps; int64, ascending."""
        import numpy as np

        from pmqbench.tasks.sampling import carve, keep

        if split == "test":
            return np.arange(count)
        carved = None if "validation" in self.splits else carve(count, self.validation_examples, task.name)
        if split == "train":
            return keep(count, self.train_examples, task.name, carved)
        return keep(count, self.validation_examples, task.name) if carved is None else carved
