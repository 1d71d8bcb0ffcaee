"""The joint leaderboard of all suites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pmqbench.errors import DataError
from pmqbench.files import write_text
from pmqbench.reporting.columns import COLUMNS
from pmqbench.reporting.tables import HOW, markdown_table, readable, write_csv


def join_suites(csvs: Mapping[str, str | Path]) -> pd.DataFrame:
    """Suites' leaderboards below each other.

    Args:
        csvs: suite -> its leaderboard.csv.

    Returns:
        "suite", then COLUMNS, all text; ranks count within a suite. Task columns, which differ, are left out.

    Raises:
        DataError: no suite is given, or a file has other columns.
    """
    if not csvs:
        raise DataError("no suite has a leaderboard yet.", remedy="Run one first: make")
    return pd.concat([read_leaderboard(suite, path) for suite, path in csvs.items()], ignore_index=True)


def read_leaderboard(suite: str, path: str | Path) -> pd.DataFrame:
    """One suite's leaderboard with a leading column "suite", without its tasks; all text."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(table.columns[: len(COLUMNS)]) != COLUMNS:
        raise DataError(f"its columns are not {', '.join(COLUMNS)}.", where=str(path), remedy="Delete it and run again.")
    table = table[list(COLUMNS)]
    table.insert(0, "suite", suite)
    return table


def write_leaderboards(table: pd.DataFrame, csv: str | Path, markdown: str | Path) -> None:
    """Writes the joint table as CSV and as markdown."""
    write_csv(csv, table)
    write_text(markdown, f"# All suites\n\n{markdown_table(readable(table))}\n\n{HOW}\n")
