"""What sources of text tasks share: options, and which rows make a task's splits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pmqbench.errors import DataError, did_you_mean
from pmqbench.tasks.sources.base import DataSource

if TYPE_CHECKING:
    from pmqbench.tasks.definitions import Task

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TextRows(DataSource):
    """Rows in splits. Calibration only ever sees the training split, and none of what serves as validation."""

    splits: Annotated[
        dict[str, str],
        Field(description="train, test and, where there is one, validation -> what the data set calls it."),
    ] = field(default_factory=lambda: {"train": "train", "test": "test"})
    train_examples: Annotated[
        int, Field(ge=1, description="Training examples kept, drawn once; calibration draws its samples from these.")
    ] = 2048
    validation_examples: Annotated[
        int, Field(ge=1, description="Validation examples kept; a tenth of the training split at most where no split is given.")
    ] = 1000

    @abstractmethod
    def files(self, split: str, where: str) -> Sequence[Path]:
        """The parquet or JSON-lines files of the split that the data set calls `split`, in order."""

    def split(self, task: Task, split: str) -> list[Row]:
        """See DataSource."""
        from pmqbench.tasks.sampling import carve, keep

        where = f"task {task.name}, split {split}"
        rows = [row for file in self.files(self._stored(task, split), where) for row in read_rows(file, where)]
        if split == "test":
            return rows
        carved = None if "validation" in self.splits else carve(len(rows), self.validation_examples, task.name)
        if split == "validation":
            kept = keep(len(rows), self.validation_examples, task.name) if carved is None else carved
        else:
            kept = keep(len(rows), self.train_examples, task.name, carved)
        return [rows[index] for index in kept]

    def _stored(self, task: Task, split: str) -> str:
        """What the data set calls the split; validation is carved out of train where there is none."""
        where = f"task {task.name}: source.splits"
        unknown = sorted(self.splits.keys() - {"train", "validation", "test"})
        if unknown:
            remedy = did_you_mean(unknown[0], ("train", "validation", "test"))
            raise DataError(f'unknown split "{unknown[0]}".', where=where, remedy=remedy)
        missing = sorted({"train", "test"} - self.splits.keys())
        if missing:
            remedy = f"Say what the data set calls it: splits: {{{missing[0]}: ...}}."
            raise DataError(f"there is no split for {missing[0]}.", where=where, remedy=remedy)
        return self.splits.get(split) or self.splits["train"]


def read_rows(file: Path, where: str) -> list[Row]:
    """All rows of a parquet or JSON-lines file; DataError if it is not readable as such."""
    import json

    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(file).to_pylist()
        except pa.ArrowInvalid as error:
            raise DataError(f"{file.name} is not a readable table ({error}).", where=where, remedy="Replace it.") from error
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            what = f"{file.name}, line {number} is not JSON ({error})."
            raise DataError(what, where=where, remedy="Write one JSON object a line.") from error
    return rows
