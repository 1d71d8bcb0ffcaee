"""What sources of data sets with splits share: which rows of a data set make a task's splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pmqbench.errors import ConfigError, DataError, did_you_mean
from pmqbench.tasks.definitions import SPLITS
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
    allow_overlap: Annotated[
        bool, Field(description="Let train, validation and test share examples; reports then say how many they share.")
    ] = False
    train_examples: Annotated[
        int, Field(ge=1, description="Training examples kept, drawn once; calibration draws its samples from these.")
    ] = 2048
    validation_examples: Annotated[
        int,
        Field(ge=1, description="Validation examples kept; without a validation split, a tenth of the training split at most."),
    ] = 1000

    def check(self, where: str) -> None:
        """Raises ConfigError for splits that are unknown, missing, or tested on and trained or tuned on as well."""
        where = f"{where}.splits"
        for name in self.splits:
            if name not in SPLITS:
                raise ConfigError(f'unknown split "{name}".', where=where, remedy=did_you_mean(name, SPLITS))
        missing = sorted({"train", "test"} - self.splits.keys())
        if missing:
            remedy = f"Say what the data set calls it: splits: {{{missing[0]}: ...}}."
            raise ConfigError(f"there is no split for {missing[0]}.", where=where, remedy=remedy)
        shared = [name for name in ("train", "validation") if self.splits.get(name) == self.splits["test"]]
        if shared and not self.allow_overlap:
            what = f'{shared[0]} and test are the same split of the data set, "{self.splits["test"]}".'
            remedy = "Name another split; if you mean it, set `allow_overlap: true` beside `splits`, and reports will say so."
            raise ConfigError(what, where=where, remedy=remedy)

    def counts(self) -> dict[str, int]:
        """Of the training and the validation split."""
        return {"train": self.train_examples, "validation": self.validation_examples}

    def stored_split(self, split: str) -> str:
        """What the data set calls the split; validation is cut out of train where there is none."""
        return self.splits.get(split) or self.splits["train"]

    def chosen_rows(self, task: Task, split: str, count: int) -> np.ndarray:
        """Those of the stored split's `count` rows that the task's split keeps; int64, ascending.

        Raises:
            DataError: validation is cut out of the training split, and that is too small.
        """
        import numpy as np

        from pmqbench.tasks.sampling import VALIDATION_SHARE, carve, keep

        if split == "test":
            return np.arange(count)
        if self.stored_split("validation") != self.splits["train"]:
            return keep(count, self.train_examples if split == "train" else self.validation_examples, task.name)
        if split == "validation" and count < VALIDATION_SHARE:
            what = f"of {count} training examples, none can be set aside for validation (one in {VALIDATION_SHARE})."
            remedy = "Give more, or a split for validation: splits: {validation: ...}."
            raise DataError(what, where=f"task {task.name}, split {split}", remedy=remedy)
        carved = carve(count, self.validation_examples, task.name)
        return carved if split == "validation" else keep(count, self.train_examples, task.name, carved)


def check_folder(folder: Path, where: str) -> None:
    """Raises ConfigError if a local source's folder is not there."""
    if not folder.is_dir():
        raise ConfigError(f'there is no folder "{folder}".', where=f"{where}.path", remedy="Check the path.")
