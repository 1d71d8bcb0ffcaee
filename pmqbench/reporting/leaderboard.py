"""The joint leaderboard of all suites, and its excerpt in the README."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pmqbench.errors import DataError
from pmqbench.files import write_text
from pmqbench.reporting.tables import COLUMNS, HOW, markdown_table, readable, write_csv

BEGIN, END = "<!-- leaderboard:begin -->", "<!-- leaderboard:end -->"
EXCERPT_RANKS = 10


def join_suites(csvs: Mapping[str, str | Path]) -> pd.DataFrame:
    """Suites' leaderboards below each other.

    Args:
        csvs: suite -> its leaderboard.csv.

    Returns:
        "suite", then tables.COLUMNS, all text; ranks count within a suite. Task columns, which differ, are left out.

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


def excerpt(table: pd.DataFrame) -> str:
    """Markdown for the README: of each suite of `join_suites` the best ranks and the references."""
    ranked = pd.to_numeric(table["rank"])
    shown = readable(table[(ranked <= EXCERPT_RANKS) | ranked.isna()])
    parts = []
    for suite, rows in shown.groupby("suite", sort=False):
        total = int((table["suite"].eq(suite) & ranked.notna()).sum())
        heading = f"**{suite}**: the best {min(EXCERPT_RANKS, total)} of {total} models, and the references"
        parts += [heading, markdown_table(rows.drop(columns="suite"))]
    return "\n\n".join(parts)


def write_leaderboards(table: pd.DataFrame, csv: str | Path, markdown: str | Path) -> None:
    """Writes the joint table as CSV and as markdown."""
    write_csv(csv, table)
    write_text(markdown, f"# All suites\n\n{markdown_table(readable(table))}\n\n{HOW}\n")


def refresh_block(readme: str | Path, markdown: str) -> bool:
    """Replaces what stands between the markers BEGIN and END by `markdown`.

    Returns:
        Whether the file changed; it is written only then.

    Raises:
        DataError: a marker is missing, doubled or in the wrong order.
    """
    text = Path(readme).read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        what = f"needs the lines {BEGIN} and {END}, once each and in this order."
        raise DataError(what, where=str(readme), remedy="Put them back.")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    fresh = f"{head}{BEGIN}\n{markdown.strip()}\n{END}{tail}"
    if fresh == text:
        return False
    write_text(readme, fresh)
    return True
