"""What is compared of a file: its values by where they stand, less what is measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pmqbench.errors import DataError
from pmqbench.files import read_json
from pmqbench.reproducibility import MEASURED

EMBEDDED = re.compile(r'(?<=<script type="application/json" id="contents">).*?(?=</script>)', re.DOTALL)
ROW = re.compile(r"^\|(.*)\|$")


def contents(path: Path) -> Iterator[tuple[str, Any]] | None:
    """(where, value) of all that is compared of a file; None for a format that is compared by its bytes.

    Raises:
        DataError: the file is not of the format that its name says.
    """
    read = READERS.get(path.suffix)
    if read is None:
        return None
    try:
        return iter(list(read(path)))
    except (OSError, ValueError) as error:  # pyarrow's, JSON's and UTF-8's errors are ValueErrors
        raise DataError(f"cannot be read ({error}).", where=str(path), remedy="Delete it and run again.") from error


def values(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested JSON and where they stand, less those of a measured key; columns of `rows` count as keys.

    JSON that stands in a text is read as well: tables keep what made a model so.
    """
    if isinstance(value, str) and value.startswith('{"'):
        value = _parsed(value)
    if isinstance(value, Mapping):
        if {"columns", "rows"} <= value.keys():
            names = [column["name"] for column in value["columns"]]
            value = value | {"rows": [dict(zip(names, row, strict=True)) for row in value["rows"]]}
        for key, item in value.items():
            if key not in MEASURED:
                yield from values(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        yield f"{where} (length)", len(value)
        for index, item in enumerate(value):
            yield from values(item, f"{where}[{index}]")
    else:
        yield where, value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a text of somebody's
        return text


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    yield from values(read_json(path))


def _page(path: Path) -> Iterator[tuple[str, Any]]:
    """A page is what it shows, as JSON, and what shows it."""
    text = path.read_text(encoding="utf-8")
    yield "page", EMBEDDED.sub("", text)
    for number, data in enumerate(EMBEDDED.findall(text)):
        yield from values(json.loads(data), f"contents[{number}]")


def _table(path: Path) -> Iterator[tuple[str, Any]]:
    import pandas as pd

    # Texts as they stand in a CSV: 0.10 is not 0.1.
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str, keep_default_na=False)
    yield "columns", ", ".join(table.columns)
    yield "rows", len(table)
    for column in table.columns:
        if column not in MEASURED:
            for row, value in enumerate(table[column].tolist()):
                yield from values(None if value is pd.NA else value, f"row {row}, {column}")


def _markdown(path: Path) -> Iterator[tuple[str, Any]]:
    """Lines, and cells of tables by their column."""
    columns: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        row = ROW.match(line)
        cells = [cell.strip() for cell in row[1].split(" | ")] if row else []
        columns = (columns or cells) if row else []
        if len(cells) != len(columns) or not row:
            yield f"line {number}", line
            continue
        yield from ((f"line {number}, {name}", cell) for name, cell in zip(columns, cells, strict=True) if name not in MEASURED)


def _tensors(path: Path) -> Iterator[tuple[str, Any]]:
    """Tensors and metadata; a seal is compared too, since it tells of tensors alone."""
    import torch

    from pmqbench.checkpoints import Checkpoint

    file = Checkpoint(path)
    yield from ((f"metadata {name}", text) for name, text in sorted(file.metadata().items()))
    for name, tensor in file.items():
        yield f"{name} (shape)", tuple(tensor.shape)
        yield name, tensor.double() if tensor.is_floating_point() else tensor.to(torch.int64)


READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".json": _json,
    ".html": _page,
    ".csv": _table,
    ".parquet": _table,
    ".md": _markdown,
    ".safetensors": _tensors,
}
