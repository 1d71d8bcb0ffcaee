"""From a report's rows to their files: index.json and index.csv, so that nobody has to read hashed folder names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pmqbench.files import write_json
from pmqbench.reporting.entries import EXPERTS, PRETRAINED
from pmqbench.reporting.tables import group_labels, write_csv
from pmqbench.reporting.verdicts import FULL_PRECISION

NAMES = ("merge", "quantizer", "bits", "group_size")
"""Columns that tell the rows of a leaderboard apart."""
Key = tuple[str, ...]


def with_row_names(table: pd.DataFrame) -> pd.DataFrame:
    """A table with "kind" and NAMES, some of them missing -> the names as a leaderboard has them."""
    merge = table["merge"].fillna(table["kind"].map({"base": PRETRAINED, "expert": EXPERTS}))
    return table.assign(merge=merge, quantizer=table["quantizer"].fillna(FULL_PRECISION), group_size=group_labels(table))


def row_keys(table: pd.DataFrame) -> list[Key]:
    """What tells each row of a table with NAMES from the others."""
    return list(table[list(NAMES)].astype(str).itertuples(index=False, name=None))


def named_files(models: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The models of a report with the names of their rows.

    Args:
        models: {"kind", "merge", "quantizer", "bits", "group_size", "seed", "folder", "records", "exported"}, as from
            `Reports.index_rows`; names, seed and exported are None where there is none.
    """
    table = pd.DataFrame(models).astype({"group_size": "Int64", "seed": "Int64"})
    return with_row_names(table).drop(columns="kind")


def write_index(files: pd.DataFrame, json: str | Path, csv: str | Path) -> None:
    """Writes what `named_files` gives: as JSON, and as CSV with the records' folder in place of their files."""
    write_json(json, index_entries(files))
    write_csv(csv, files.assign(records=[Path(records[0]).parent.as_posix() for records in files["records"]]))


def index_entries(files: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `named_files` as data, with None where there is no seed or no export."""
    return files.astype("object").where(files.notna(), None).to_dict("records")
