"""Labelled images in parquet and arrow files: which files make a split, class names, labels, and images row by row."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from pmqbench.cards import card_head
from pmqbench.errors import DataError

SUFFIXES = (".parquet", ".arrow")
ROWS = 256
"""Rows read at a time."""


def shards(names: Collection[str], split: str, config: str | None = None, card: str = "") -> list[str]:
    """Those of a data set's files that hold a split, in order.

    Args:
        names: paths of all files.
        split: the split as the data set calls it.
        config: the configuration, where a data set has several.
        card: README.md; its `configs` say which files belong to a split. Without them the names do, as the `datasets` library
            writes them: train-00000-of-00002.parquet, train/0000.parquet, below a folder called like the configuration.
    """
    tables = sorted(name for name in names if name.endswith(SUFFIXES))
    patterns = _declared(card, split, config)
    if patterns:
        return [name for name in tables if any(fnmatch(name, pattern) for pattern in patterns)]
    folder = f"{config}/" if any(name.startswith(f"{config}/") for name in tables) else ""
    shape = re.compile(rf"(.*/)?{re.escape(split)}(-\d+-of-\d+(-\w+)?\.|\.|/[^/]+\.)(parquet|arrow)")
    return [name for name in tables if name.startswith(folder) and shape.fullmatch(name)]


def _declared(card: str, split: str, config: str | None) -> list[str]:
    """Patterns of a split's files in the head of a data set's card."""
    for entry in card_head(card).get("configs", []):
        if entry.get("config_name", "default") == (config or entry.get("config_name", "default")):
            files = entry.get("data_files", [])
            wanted = [item for item in files if isinstance(item, dict) and item.get("split") == split]
            return [path for item in wanted for path in ([item["path"]] if isinstance(item["path"], str) else item["path"])]
    return []


@dataclass(frozen=True)
class Table:
    """The files of one split.

    Attributes:
        files: parquet or arrow files.
        image, label: column names.
        where: what messages call the split.
    """

    files: Sequence[Path]
    image: str
    label: str
    where: str

    def schema(self) -> pa.Schema:
        """Schema of the first file; DataError if a column is missing."""
        schema = next(self._read(self.files[0], None))[0]
        for column, option in ((self.image, "image"), (self.label, "label")):
            if column not in schema.names:
                what = f'there is no column "{column}"; there are: {", ".join(schema.names)}.'
                raise DataError(what, where=self.where, remedy=f"Set `{option}` of the task's source.")
        return schema

    def class_names(self) -> list[str] | None:
        """Names of the label's classes where the data set's features tell them, else None."""
        return class_names(self.schema(), self.label)

    def labels(self, classnames: Sequence[str]) -> np.ndarray:
        """Labels of all rows, int64 (n,); labels that are words must be class names."""
        self.schema()
        columns = [batch.column(0) for file in self.files for _, batch in self._read(file, [self.label]) if batch is not None]
        values = pa.chunked_array(columns) if columns else pa.chunked_array([], pa.int64())
        if values.null_count:
            raise DataError(f"{values.null_count} labels are missing.", where=self.where, remedy="Remove those rows.")
        if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
            return np.asarray(values.to_numpy(), dtype=np.int64)
        index = {name: i for i, name in enumerate(classnames)}
        words = values.to_pylist()
        foreign = sorted({str(word) for word in words} - index.keys())
        if foreign:
            what = f'label "{foreign[0]}" is no class name of the task.'
            raise DataError(what, where=self.where, remedy="Labels are numbers from 0, or the task's class names.")
        return np.array([index[word] for word in words], dtype=np.int64)

    def images(self, rows: np.ndarray) -> Iterator[tuple[bytes | Path, str]]:
        """Stored images of the given rows (ascending) and their places."""
        wanted, start = set(rows.tolist()), 0
        for file in self.files:
            for _, batch in self._read(file, [self.image]):
                if batch is None:
                    continue
                for offset in range(len(batch)):
                    if start + offset in wanted:
                        where = f"{self.where}, {file.name}, row {start + offset}"
                        yield _stored(batch.column(0)[offset].as_py(), file, where), where
                start += len(batch)

    def _read(self, file: Path, columns: list[str] | None) -> Iterator[tuple[pa.Schema, pa.RecordBatch | None]]:
        """The file's schema (with no batch), then its batches with the columns; the schema alone if `columns` is None."""
        try:
            if file.suffix == ".arrow":
                yield from _read_arrow(file, columns)
                return
            with pq.ParquetFile(file) as table:
                yield table.schema_arrow, None
                if columns is not None:
                    for batch in table.iter_batches(ROWS, columns=columns):
                        yield batch.schema, batch
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{file.name} is not a readable table ({error}).", where=self.where, remedy="Replace it."
            ) from error


def class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Names of a label's classes as the `datasets` library keeps them in a table's schema, or None."""
    from datasets import ClassLabel, Features

    feature = Features.from_arrow_schema(schema).get(label)
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def _read_arrow(file: Path, columns: list[str] | None) -> Iterator[tuple[pa.Schema, pa.RecordBatch | None]]:
    """As Table._read, for the stream format that the `datasets` library writes and for arrow's file format."""
    with pa.memory_map(str(file)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        yield reader.schema, None
        if columns is not None:
            found = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
            yield from ((batch.schema, batch.select(columns)) for batch in found)


def _stored(cell: object, file: Path, where: str) -> bytes | Path:
    """The image in a cell: bytes, or {"bytes", "path"} as `datasets` stores it, a path being relative to the table's folder."""
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, dict) and cell.get("bytes"):
        return cell["bytes"]
    path = cell.get("path") if isinstance(cell, dict) else cell
    if isinstance(path, str):
        return file.parent / path
    raise DataError("the cell holds no image.", where=where, remedy="Set `image` of the task's source to the image column.")


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
