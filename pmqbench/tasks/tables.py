"""Parquet and arrow files: a label's class names, labels, and images row by row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from pmqbench.errors import DataError

ROWS = 256
"""Rows read at a time."""
WORDS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


@dataclass(frozen=True)
class Table:
    """Labelled images in the files of one split.

    Attributes:
        files: parquet or arrow files, at least one.
        image, label: column names.
        where: what messages call the split.
        paths: whether cells may name image files below the table's folder; else they hold the images' bytes.
        stated: class names of the label that stand outside the tables (a card), or None.
    """

    files: Sequence[Path]
    image: str
    label: str
    where: str
    paths: bool = False
    stated: Sequence[str] | None = None

    @cached_property
    def schema(self) -> pa.Schema:
        """Schema of the first file; DataError if a file lacks a column, or their labels differ in type or class names."""
        first, *others = [read_schema(file, self.where) for file in self.files]
        for file, schema in zip(self.files, (first, *others), strict=True):
            for column, option in ((self.image, "image"), (self.label, "label")):
                if schema.names.count(column) != 1:
                    there = "more than one" if column in schema.names else "no"
                    what = f'there is {there} column "{column}"; there are: {", ".join(schema.names)}.'
                    raise DataError(what, where=f"{self.where}, {file.name}", remedy=f"Set `{option}` of the task's source.")
            alike = schema.field(self.label).type == first.field(self.label).type
            if not alike or class_names(schema, self.label) != class_names(first, self.label):
                what = f"the labels of {self.files[0].name} and {file.name} differ in type or class names."
                raise DataError(what, where=self.where, remedy="Write all files of a split in one way.")
        return first

    def class_names(self) -> Sequence[str] | None:
        """Names of the label's classes where the data set's features tell them, else None."""
        return class_names(self.schema, self.label) or self.stated

    def labels_are_words(self) -> bool:
        """Whether labels are class names themselves."""
        kind = self.schema.field(self.label).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(fits(kind) for fits in (*WORDS, pa.types.is_integer, pa.types.is_boolean)):
            what = f'the labels, column "{self.label}", are of type {kind}.'
            raise DataError(what, where=self.where, remedy="Labels are numbers from 0, or the task's class names.")
        return any(fits(kind) for fits in WORDS)

    def labels(self, classnames: Sequence[str]) -> np.ndarray:
        """Labels of all rows, int64 (n,); labels that are words must be class names."""
        kind = self.schema.field(self.label).type
        columns = [batch.column(0) for file in self.files for batch in read_batches(file, [self.label], self.where)]
        values = pa.chunked_array(columns, kind)
        if values.null_count:
            raise DataError(f"{values.null_count} labels are missing.", where=self.where, remedy="Remove those rows.")
        if not self.labels_are_words():
            return np.asarray(values.to_numpy(), dtype=np.int64)
        index = {name: i for i, name in enumerate(classnames)}
        words = values.to_pylist()
        foreign = sorted(set(words) - index.keys())
        if foreign:
            what = f'label "{foreign[0]}" is no class name of the task.'
            raise DataError(what, where=self.where, remedy="Labels are numbers from 0, or the task's class names.")
        return np.array([index[word] for word in words], dtype=np.int64)

    def images(self, rows: np.ndarray) -> Iterator[tuple[bytes | Path, str]]:
        """Stored images of the given rows (ascending) and their places."""
        wanted, total = set(rows.tolist()), 0
        for file in self.files:
            begin = total
            for batch in read_batches(file, [self.image], self.where):
                for offset in range(len(batch)):
                    if total + offset in wanted:
                        where = f"{self.where}, {file.name}, row {total + offset - begin}"
                        with _explained(file, where):
                            cell = batch.column(0)[offset].as_py()
                        yield self._stored(cell, file, where), where
                total += len(batch)

    def _stored(self, cell: object, file: Path, where: str) -> bytes | Path:
        """The image in a cell: bytes, {"bytes", "path"} as `datasets` stores it, or a path below the table's folder."""
        if isinstance(cell, bytes):
            return cell
        if isinstance(cell, dict) and cell.get("bytes"):
            return cell["bytes"]
        path = cell.get("path") if isinstance(cell, dict) else cell
        if not isinstance(path, str):
            remedy = "Set `image` of the task's source to the image column."
            raise DataError("the cell holds no image.", where=where, remedy=remedy)
        if not self.paths:
            what = f'the cell holds a path ("{path}") and no image.'
            raise DataError(what, where=where, remedy="A data set of the hub must hold its images' bytes.")
        image, folder = file.parent / path, file.parent.resolve()
        if Path(path).is_absolute() or "\0" in path or not image.resolve().is_relative_to(folder):
            what = f'the path "{path}" is absolute, leaves the folder of the table, or is no path at all.'
            raise DataError(what, where=where, remedy=f"Put the images below {folder}, and relative paths into the table.")
        return image


def read_schema(file: Path, where: str) -> pa.Schema:
    """Schema of a parquet or arrow file; DataError if it is not readable."""
    with _explained(file, where):
        schema = _schema(file)
        list(schema.names)  # decodes them: damaged ones are no text
        return schema


def _schema(file: Path) -> pa.Schema:
    if file.suffix == ".parquet":
        return pq.read_schema(file)
    with pa.memory_map(str(file)) as source:
        return _arrow_reader(source)[0].schema


def read_batches(file: Path, columns: Sequence[str] | None, where: str) -> Iterator[pa.RecordBatch]:
    """Rows of a parquet or arrow file with the columns (None: all of them), some hundred at a time."""
    with _explained(file, where):
        for batch in _batches(file, columns):
            batch.validate(full=True)  # arrow trusts the offsets of a file, and would read wherever damaged ones lead
            if columns and set(batch.schema.names) != set(columns):
                raise pa.ArrowInvalid(f"it has not the columns {', '.join(columns)} that its schema tells of")
            yield batch


def _batches(file: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as table:
            yield from table.iter_batches(ROWS, columns=columns and list(columns))
        return
    # Both the stream format that the `datasets` library writes and arrow's file format.
    with pa.memory_map(str(file)) as source:
        reader, is_file = _arrow_reader(source)
        found = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
        yield from (batch.select(columns) if columns else batch for batch in found)


def read_rows_of_table(file: Path, where: str) -> Iterator[dict[str, Any]]:
    """Rows of a parquet or arrow file as mappings of columns to values; DataError for values that Python has not."""
    for batch in read_batches(file, None, where):
        with _explained(file, where):
            rows = batch.to_pylist()
        yield from rows


def class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Names of a label's classes as the `datasets` library keeps them in a table's schema, or None.

    Read here: that library makes whatever object the schema names, and reads class names from any file that it points to.
    """
    try:
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError, RecursionError):  # no such metadata, or of another form
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


@contextmanager
def _explained(file: Path, where: str) -> Iterator[None]:
    if not file.is_file():
        raise DataError(f"{file.name} is no file, or a link to none.", where=where, remedy="Replace or remove it.")
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{file.name} is not a readable table ({error}).", where=where, remedy="Replace it.") from error


def _arrow_reader(source: pa.MemoryMappedFile) -> tuple[Any, bool]:
    """Reader of an arrow file, and whether it has the file format, else the stream format."""
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    return (pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)), is_file


def check_classes(found: Sequence[str], classnames: Sequence[str], where: str) -> None:
    """Compares a data set's own class names with the task's: the count, and the order of those that correspond.

    Names differ between protocols ("crab" and "cra"), so only a name that stands at another place is an error.
    """
    if len(found) != len(classnames):
        raise DataError(
            f"the data set has {len(found)} classes, the task {len(classnames)}.",
            where=where,
            remedy="Class names and data are of different tasks or versions: check the source's id, revision and label column.",
        )
    plain = [_plain(name) for name in classnames]
    for index, name in enumerate(map(_plain, found)):
        if name and name in plain and plain[index] != name:
            raise DataError(
                f'label {index} is "{found[index]}" in the data set and "{classnames[index]}" in the task.',
                where=where,
                remedy="Put the task's class names into the data set's order.",
            )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())
