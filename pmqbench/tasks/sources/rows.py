"""What sources of text tasks share: rows of tables, JSON lines or CSV, checked against the data set's own classes."""

from __future__ import annotations

import csv
import io
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.errors import DataError
from pmqbench.tasks.sources.base import COMPARED, TEXTS, UNCHECKED, WORDS
from pmqbench.tasks.sources.parts import SplitSource

if TYPE_CHECKING:
    from pmqbench.tasks.kinds.base import RowTask

Row = Mapping[str, Any]

TABLES = (".parquet", ".arrow")


@dataclass(frozen=True, kw_only=True)
class TextRows(SplitSource):
    """Rows with the columns that a task's text names, and a label."""

    yields = TEXTS

    @abstractmethod
    def files(self, split: str, where: str) -> Sequence[Path]:
        """The files of the split that the data set calls `split`, in order."""

    def stated_classes(self, split: str, label: str, where: str) -> Sequence[str] | None:
        """Names of a label's classes that stand outside the files, or None."""
        return None

    def split(self, task: RowTask, split: str) -> list[Row]:
        """Rows, each a mapping of columns to values."""
        from pmqbench.tasks.tables import check_classes

        where = f"task {task.name}, split {split}"
        found = self._class_names(task, split)
        if found is not None and task.classes is not None:
            check_classes(found, task.classes, where)
        rows = [row for file in self.files_of(task, split) for row in read_rows(file, where)]
        return [rows[index] for index in self.chosen_rows(task, split, len(rows))]

    def files_of(self, task: RowTask, split: str) -> Sequence[Path]:
        """The split's files."""
        return self.files(self.stored_split(split), f"task {task.name}, split {split}")

    def label_check(self, task: RowTask, split: str) -> str:
        """COMPARED where the data set's features, WORDS where the labels themselves tell the class names, else UNCHECKED."""
        if task.classes is None:
            return "the task has none"
        if self._class_names(task, split) is not None:
            return COMPARED
        where = f"task {task.name}, split {split}"
        first = next((row for file in self.files_of(task, split) for row in read_rows(file, where)), {})
        word = first.get(task.label)
        return WORDS if isinstance(word, str) and word.strip() in task.classes else UNCHECKED

    def _class_names(self, task: RowTask, split: str) -> Sequence[str] | None:
        """Names of the label's classes where the data set's features tell them, else None."""
        from pmqbench.tasks.tables import class_names, read_schema

        where = f"task {task.name}, split {split}"
        for file in self.files_of(task, split):
            if file.suffix in TABLES and (names := class_names(read_schema(file, where), task.label)):
                return names
        return self.stated_classes(self.stored_split(split), task.label, where)


def read_rows(file: Path, where: str) -> Iterator[Row]:
    """The rows of a file; DataError, naming file and line, if it cannot be read."""
    if file.suffix in TABLES:
        from pmqbench.tasks.tables import read_rows_of_table

        return read_rows_of_table(file, where)
    return _read_lines(file, where) if file.suffix == ".jsonl" else _read_csv(file, where)


def _read_lines(file: Path, where: str) -> Iterator[Row]:
    """Lines end at a newline only: other line separators (U+2028, form feeds) may stand in a text."""
    for number, line in enumerate(_text(file, where).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            what = f"{file.name}, line {number} is not JSON ({error})."
            raise DataError(what, where=where, remedy="Write one JSON object a line.") from error
        if not isinstance(row, dict):
            what = f"{file.name}, line {number} is no JSON object."
            raise DataError(what, where=where, remedy='Write one JSON object a line: {"text": ..., "label": ...}.')
        yield row


def _read_csv(file: Path, where: str) -> Iterator[Row]:
    """Rows below a header, every cell as text."""
    reader = csv.reader(io.StringIO(_text(file, where), newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise DataError(f"{file.name} names a column twice: {', '.join(header)}.", where=where, remedy="Rename one.")
        for cells in reader:
            if cells and len(cells) != len(header):
                what = f"{file.name}, line {reader.line_num} has {len(cells)} cells, the header {len(header)}."
                raise DataError(what, where=where, remedy="Separate cells by commas, and quote a cell that has one.")
            if cells:
                yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        what = f"{file.name}, line {reader.line_num} is no CSV ({error})."
        raise DataError(what, where=where, remedy='Quote with ", and write "" for a quote in a cell.') from error


def _text(file: Path, where: str) -> str:
    """A file's text, UTF-8 with or without a byte order mark, line ends as they are."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"{file.name} is not UTF-8 (byte {error.start})."
        raise DataError(what, where=where, remedy="Save it as UTF-8.") from error
