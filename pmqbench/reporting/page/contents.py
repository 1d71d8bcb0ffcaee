"""What the page of a report shows, as data: the rows of leaderboard.csv as they are, differences of all pairs, details."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pmqbench.reporting.comparisons import differences
from pmqbench.reporting.page.definitions import columns
from pmqbench.reporting.page.details import Details
from pmqbench.reporting.page.index import NAMES, row_keys, with_row_names
from pmqbench.reporting.statistics import Summary
from pmqbench.reporting.style import styles
from pmqbench.reporting.verdicts import FULL_PRECISION

Table = tuple[list[str], list[list[str]]]
UNGROUPED = ("channel", "-")  # a column of these alone begins hidden


def read_csv(path: str | Path) -> Table:
    """Header and rows of a CSV, all text."""
    with open(path, encoding="utf-8", newline="") as handle:
        header, *rows = csv.reader(handle)
    return header, rows


def suite_contents(
    report: str,
    table: Table,
    summary: Summary,
    details: Details,
    *,
    command: Sequence[str],
    beside: Sequence[str],
    warnings: Sequence[Mapping[str, str]],
    sentence: str,
) -> dict[str, Any]:
    """The page of one report.

    Args:
        report: its folder's name.
        table: of leaderboard.csv.
        summary: of its records.
        details: of its rows.
        command: that makes the report's files, as words, up to their names.
        beside: files and folders in the page's folder to link to.
        warnings: of the report.
        sentence: what its comparisons say.
    """
    header, rows = table
    places = [header.index(name) for name in NAMES]
    keys = [tuple(row[place] for place in places) for row in rows]
    entries = {key: entry for entry, key in enumerate(row_keys(with_row_names(summary.entries)))}
    order = [entries[key] for key in keys]
    return {
        **plain_contents(report, table, summary.tasks),
        "references": [row for row, entry in enumerate(order) if summary.entries["kind"][entry] in ("base", "expert")],
        "pairs": pair_differences(summary, order),
        "details": [details.rows[key] for key in keys],
        "provenances": details.provenances,
        "layers": details.layers,
        "command": shlex.join(command),
        "beside": list(beside),
        "warnings": list(warnings),
        "sentence": sentence,
    }


def joint_contents(table: Table, pages: Mapping[str, str], warnings: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The page of all suites.

    Args:
        table: the joint leaderboard.
        pages: suite -> address of its own page.
        warnings: what a reader has to be warned of.
    """
    header, rows = table
    rank = header.index("rank")
    references = [number for number, row in enumerate(rows) if not row[rank]]
    beside = ["leaderboard.csv", "leaderboard.md"]
    shown = {"references": references, "pages": dict(pages), "warnings": list(warnings), "beside": beside}
    return plain_contents("all suites", table) | shown


def plain_contents(report: str, table: Table, tasks: Sequence[str] = ()) -> dict[str, Any]:
    """What every page shows: columns, rows, and each quantizer's colour and marker, as in the plots."""
    header, rows = table
    quantizers = {row[header.index("quantizer")] for row in rows} - {FULL_PRECISION}
    looks = {name: asdict(style) for name, style in styles(quantizers).items() if name in quantizers}
    grouped = any(row[header.index("group_size")] not in UNGROUPED for row in rows)
    shown_first = [
        column | {"extra": column["extra"] or (column["name"] == "group_size" and not grouped)}
        for column in columns(header, tasks)
    ]
    shown = {"report": report, "columns": shown_first, "rows": rows, "styles": looks}
    return shown | {"warnings": [], "sentence": "", "pairs": None, "details": None, "pages": {}}


def pair_differences(summary: Summary, order: Sequence[int]) -> list[list[list[float]]]:
    """Paired differences between all rows.

    Args:
        summary: of the report.
        order: the entry of every row.

    Returns:
        For row i and each row j < i: [difference of i to j, lower, upper end of its 95 % interval, all in points, p-value].
    """
    entries = np.asarray(order)
    first, second = np.tril_indices(len(entries), -1)
    table = differences(summary, entries[first], entries[second])
    points = (100 * table[["difference", "ci_low", "ci_high"]]).round(2)
    values = points.assign(p=table["p"].map(significant)).to_numpy().tolist()
    return [values[row * (row - 1) // 2 : row * (row + 1) // 2] for row in range(len(entries))]


def significant(p: float) -> float:
    """A p-value with more figures than are shown, as the page corrects it before it is rounded."""
    return float(f"{p:.5g}")
