"""The last screen of `make`: a suite's leaderboard.csv as a table of at most 100 columns, and the files to open.

python -m pmqbench.reporting.terminal results/suites/mini
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from pmqbench.errors import DataError
from pmqbench.files import read_json
from pmqbench.reporting.published import tally
from pmqbench.reporting.verdicts import read_pairs, verdict_sentence

WIDTH, UNBOUNDED = 100, 10_000
LEADING = ("rank", "merge", "quantizer", "bits", "group_size", "average", "ci_low", "normalised", "size_mb")
SHORT = LEADING[:7]
HEADINGS = {"rank": "#", "group_size": "group", "ci_low": "95 % interval", "normalised": "norm.", "size_mb": "MB"}
FIRST_TASK = 12
FILES = ("report.html", "leaderboard.md", "comparisons.csv", "reproduction.md", "plots/*.png")
NOTE = "Percent; intervals: bootstrap over test examples and seeds; norm.: relative to the experts."
TEXT = ("merge", "quantizer")
WARNINGS_SHOWN = 10


def print_leaderboard(
    csv_path: str | Path,
    files: Sequence[str | Path] = (),
    console: Console | None = None,
    notes: Sequence[str] = (NOTE,),
    warnings: Sequence[str] = (),
) -> None:
    """Prints a leaderboard, what to know of it and what to open next.

    Args:
        csv_path: leaderboard.csv of a suite.
        files: files to name below the table.
        console: where to; the terminal by default.
        notes: sentences below the table.
        warnings: one line each, below the notes.
    """
    console = console or Console()
    with open(csv_path, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    if not rows:
        raise DataError("the leaderboard is empty.", where=str(csv_path), remedy="Delete it and run again.")
    if not console.is_terminal:
        console.width = WIDTH
    width = min(WIDTH, console.width)
    wide = (*LEADING, *list(rows[0])[FIRST_TASK:])
    room = console.options.update(max_width=UNBOUNDED)
    layouts = [build(rows, columns) for columns in (wide, LEADING, SHORT)]  # what does not fit is in the CSV
    fitting = [table for table in layouts if Measurement.get(console, room, table).maximum <= width]
    console.print(fitting[0] if fitting else layouts[-1], width=width)
    for note in notes:
        console.print(note, width=width, highlight=False, markup=False)
    for warning in warnings:
        console.print(warning, soft_wrap=True, highlight=False, markup=False)
    for path in files:
        console.print(f"  {path}", soft_wrap=True, highlight=False, markup=False)


def build(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Table:
    """The table with the given columns; references stand below a line."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(escape(HEADINGS.get(column, column)), justify="left" if column in TEXT else "right", no_wrap=True)
    for row, following in zip(rows, (*rows[1:], None), strict=True):
        cells = [interval(row) if column == "ci_low" else escape(row[column]) for column in columns]
        last_ranked = bool(row["rank"]) and following is not None and not following["rank"]
        table.add_row(*cells, end_section=last_ranked, style=None if row["rank"] else "dim")
    return table


def interval(row: Mapping[str, str]) -> str:
    """The interval with one decimal, to save room."""
    return f"{float(row['ci_low']):z.1f} – {float(row['ci_high']):z.1f}"


def show(report: Path) -> None:
    """Prints the leaderboard of a report's folder, its warnings, and names its files."""
    files = [path for pattern in FILES for path in sorted(report.glob(pattern))]
    notes = [NOTE, verdict_sentence(read_pairs(report / "comparisons.csv")), *reproduced(report)]
    print_leaderboard(
        report / "leaderboard.csv",
        [report / "leaderboard.csv", *files],
        notes=[note for note in notes if note],
        warnings=warning_lines(read_json(report / "warnings.json")),
    )


def warning_lines(warnings: Sequence[Mapping[str, str]]) -> list[str]:
    """A line a warning; beyond WARNINGS_SHOWN their number and where they stand."""
    lines = [f"WARNING: {warning['where']}: {warning['message']}" for warning in warnings[:WARNINGS_SHOWN]]
    rest = len(warnings) - len(lines)
    return lines + ([f"... and {rest} more warnings, in leaderboard.md"] if rest else [])


def reproduced(report: Path) -> list[str]:
    """A sentence on the published numbers; [] if there are none."""
    path = report / "reproduction.csv"
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as handle:
        return [f"Published numbers: {tally([row['verdict'] for row in csv.DictReader(handle)])}."]


if __name__ == "__main__":
    show(Path(sys.argv[1]))
