"""The last screen of `make`: the best of a suite's leaderboard.csv in at most 100 columns, and the files to open.

A terminal has some 24 lines, so the table has the BEST models, the best one of each bit width, and the references; `--all`
shows the rest too. Columns that say nothing (group sizes where there are none) or do not fit are left to the files.

python -m pmqbench.reporting.terminal [--all] results/suites/mini
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from pmqbench.errors import DataError, PMQError
from pmqbench.files import read_json
from pmqbench.reporting.columns import COLUMNS
from pmqbench.reporting.published import tally
from pmqbench.reporting.verdicts import REFERENCE, marked_rank, read_pairs, verdict_sentence

WIDTH, UNBOUNDED = 100, 10_000
BEST = 8
SHORT = ("rank", "merge", "quantizer", "bits", "group_size", "average", "ci_low")
MIDDLE = (*SHORT, "size_mb", "calibration_seconds")
LEADING = (*SHORT, "tied_rank", "normalised", "size_mb", "calibration_seconds")
HEADINGS = {"rank": "#", "group_size": "group", "ci_low": "95 % interval", "normalised": "norm.", "size_mb": "MB"}
HEADINGS |= {"calibration_seconds": "cal. s", "tied_rank": "tied"}
FILES = ("report.html", "leaderboard.csv", "leaderboard.md", "comparisons.csv", "reproduction.md", "plots")
PAGE = "leaderboard.html"
SENTENCES = "differences.csv"
NOTE = """\
=: not clearly worse than the rank before; tied: 1 + models clearly better; norm.: relative to the experts;
cal. s: seconds to make the model; *: chosen by validation labels."""
TEXT = ("merge", "quantizer")
WARNINGS_SHOWN = 10


def print_leaderboard(
    csv_path: str | Path,
    files: str = "",
    console: Console | None = None,
    notes: Sequence[str] = (NOTE,),
    warnings: Sequence[str] = (),
    every: bool = False,
) -> None:
    """Prints the best of a leaderboard, what to know of it and what to open next.

    Args:
        csv_path: leaderboard.csv of a suite.
        files: what to open, the last paragraph.
        console: where to; the terminal by default.
        notes: sentences below the table.
        warnings: one line each, below the notes.
        every: print all rows.
    """
    console = console or Console()
    with open(csv_path, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    if not rows:
        raise DataError("the leaderboard is empty.", where=str(csv_path), remedy="Delete it and run again.")
    if not console.is_terminal:
        console.width = WIDTH
    width = min(WIDTH, console.width)
    grouped = any(row["group_size"] not in ("channel", "-") for row in rows)
    shown = rows if every else best_rows(rows)
    tiers = ((*LEADING, *list(rows[0])[len(COLUMNS) :]), LEADING, MIDDLE, SHORT)
    room = console.options.update(max_width=UNBOUNDED)
    layouts = [build(shown, [column for column in columns if grouped or column != "group_size"]) for columns in tiers]
    fitting = [table for table in layouts if Measurement.get(console, room, table).maximum <= width]
    console.print(fitting[0] if fitting else layouts[-1], width=width)
    hidden = len(rows) - len(shown)
    for note in [f"{hidden} models more in the files below, and by `make show`.", *notes] if hidden else notes:
        console.print(note, width=width, highlight=False, markup=False)
    for warning in warnings:
        console.print(warning, soft_wrap=True, highlight=False, markup=False)
    if files:
        console.print(files, width=width, highlight=False, markup=False)


def best_rows(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The BEST ranked rows, the best one of each bit width, and the references, in the leaderboard's order."""
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        first.setdefault(row["bits"], place)
    kept = {*range(BEST), *first.values()}
    return [row for place, row in enumerate(rows) if place in kept or not row["rank"]]


def build(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Table:
    """The table with the given columns; references stand below a line."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(escape(HEADINGS.get(column, column)), justify="left" if column in TEXT else "right", no_wrap=True)
    for row, following in zip(rows, (*rows[1:], None), strict=True):
        cells = [cell(row, column) for column in columns]
        last_ranked = bool(row["rank"]) and following is not None and not following["rank"]
        table.add_row(*cells, end_section=last_ranked, style=None if row["rank"] else "dim")
    return table


def cell(row: Mapping[str, str], column: str) -> str:
    """A cell's text: the interval with one decimal, to save room, and marks: of ties, and of what labels were used for."""
    if column == "rank":
        return marked_rank(row)
    if column == "ci_low":
        return f"{float(row['ci_low']):z.1f} – {float(row['ci_high']):z.1f}"
    mark = ("*" if row["chosen"] != "-" else " ") if column == "average" else ""
    return escape(row[column]) + mark


def show(report: Path, every: bool = False) -> None:
    """Prints the leaderboard of a report's folder, with its best or with all rows, its warnings, and names its files.

    Of a report on training seeds, which has no leaderboard, prints what they say to the differences to the reference.
    """
    if (report / SENTENCES).is_file():
        said = [row["sentence"] for row in read_pairs(report / SENTENCES) if every or row["against"] == REFERENCE]
        Console().print("\n".join([*said, f"Open {report}/variance.md."]), soft_wrap=True, highlight=False, markup=False)
        return
    files = [name for name in FILES if (report / name).exists()]
    page = f"Open {report / PAGE}. " if (report / PAGE).is_file() else ""
    notes = [NOTE, verdict_sentence(read_pairs(report / "comparisons.csv")), *reproduced(report)]
    print_leaderboard(
        report / "leaderboard.csv",
        f"{page}In {report}: {', '.join(files)}",
        notes=[note for note in notes if note],
        warnings=warning_lines(read_json(report / "warnings.json")),
        every=every,
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
    parser = argparse.ArgumentParser(description="Shows a report's leaderboard.")
    parser.add_argument("report", type=Path, help="the report's folder: results/suites/mini")
    parser.add_argument("--all", action="store_true", dest="every", help="show all rows, not only the best")
    given = parser.parse_args()
    try:
        show(given.report, given.every)
    except (OSError, PMQError) as error:
        parser.exit(1, f"no leaderboard to show: {error}\n")
