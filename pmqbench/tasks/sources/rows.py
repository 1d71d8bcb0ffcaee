"""What sources of text tasks share: rows of parquet or JSON-lines files, checked against the data set's own classes."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.errors import DataError
from pmqbench.tasks.sources.parts import SplitSource

if TYPE_CHECKING:
    from pmqbench.tasks.kinds.base import RowTask

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TextRows(SplitSource):
    """Rows with the columns that a task's text names, and a label."""

    @abstractmethod
    def files(self, split: str, where: str) -> Sequence[Path]:
        """The parquet or JSON-lines files of the split that the data set calls `split`, in order."""

    def split(self, task: RowTask, split: str) -> list[Row]:
        """See DataSource."""
        where = f"task {task.name}, split {split}"
        rows = [row for file in self.files(self.stored_split(task, split), where) for row in read_rows(file, task, where)]
        return [rows[index] for index in self.chosen_rows(task, split, len(rows))]


def read_rows(file: Path, task: RowTask, where: str) -> list[Row]:
    """All rows of a file; DataError if it is not readable, or its own classes are not the task's words."""
    return _read_parquet(file, task, where) if file.suffix == ".parquet" else _read_lines(file, where)


def _read_parquet(file: Path, task: RowTask, where: str) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pmqbench.tasks.tables import check_classes, class_names

    try:
        table = pq.read_table(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file.name} is not a readable table ({error}).", where=where, remedy="Replace it.") from error
    found = class_names(table.schema, task.label)
    if found is not None and task.classes is not None:
        check_classes(found, task.classes, where)
    return table.to_pylist()


def _read_lines(file: Path, where: str) -> list[Row]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            what = f"{file.name}, line {number} is not JSON ({error})."
            raise DataError(what, where=where, remedy="Write one JSON object a line.") from error
    return rows
