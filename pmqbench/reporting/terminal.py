"""The last screen of `make`: the best of a leaderboard in at most 100 columns, what the tests say, and the files to open.

A terminal has 24 lines or more. What is said below the table takes what it needs, cut where it is long; the table has the rest
of the lines: the best models, the best one of each bit width, and the references. `--all` shows and says everything. Columns
that say nothing (group sizes where there are none) or do not fit are left to the files.

python -m pmqbench.reporting.terminal [--all] results/suites/mini
"""

from __future__ import annotations

import argparse
import csv
import textwrap
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
from pmqbench.reporting.verdicts import REFERENCE, clear_verdicts, marked_rank, read_pairs, verdict_sentence

Row = Mapping[str, str]

WIDTH, UNBOUNDED = 100, 10_000
LINES = 22  # of a terminal's 24: below stand Snakemake's line with the log's name, and the prompt
HEADING = 2
LEAST = 3  # models that are shown even if their bit widths' best ones take all the room
VERDICT_LINES, WARNING_LINES = 3, 2
SHORT = ("rank", "merge", "quantizer", "bits", "group_size", "average", "ci_low")
MIDDLE = (*SHORT, "size_mb", "calibration_seconds")
TIED = (*SHORT, "tied_rank", "size_mb", "calibration_seconds")
LEADING = (*SHORT, "tied_rank", "normalised", "size_mb", "calibration_seconds")
HEADINGS = {"rank": "#", "group_size": "group", "ci_low": "95 % interval", "normalised": "norm.", "size_mb": "MB"}
HEADINGS |= {"calibration_seconds": "cal. s", "tied_rank": "tied"}
MEANINGS = {
    "rank": "=: not clearly worse than the rank before",
    "average": "*: chosen by validation labels",
    "tied_rank": "tied: 1 + models clearly better",
    "normalised": "norm.: relative to the experts",
    "calibration_seconds": "cal. s: seconds to make the model",
}
FILES = ("report.html", "leaderboard.csv", "leaderboard.md", "comparisons.csv", "reproduction.md", "plots")
PAGE = "leaderboard.html"
SENTENCES = "differences.csv"
TEXT = ("merge", "quantizer")
ALL = "`make show`: all"


def show(report: Path, every: bool = False, console: Console | None = None) -> None:
    """Prints a report's leaderboard, what to know of it, its warnings, and what to open next.

    Of a report on training seeds, which has no leaderboard, prints what they say to the differences to the reference.

    Args:
        report: the report's folder.
        every: print all rows, sentences and warnings, not only what fits a screen.
        console: where to; the terminal by default.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = WIDTH
    width = min(WIDTH, console.width)
    if (report / SENTENCES).is_file():
        said = [row["sentence"] for row in read_pairs(report / SENTENCES) if every or row["against"] == REFERENCE]
        console.print("\n".join([*said, f"Open {report}/variance.md."]), soft_wrap=True, highlight=False, markup=False)
        return
    rows = read_rows(report / "leaderboard.csv")
    verdicts, warnings = read_pairs(report / "comparisons.csv"), read_json(report / "warnings.json")
    told = everything_told(verdicts, warnings, width) if every else briefly_told(verdicts, warnings, width)
    below = [*told, *reproduced(report), *wrapped(files_named(report), width)]
    # Above these stand the heading, a rule above the references, how many rows are left out, and what marks mean.
    room = LINES - HEADING - 1 - 1 - len(wrapped("; ".join(MEANINGS.values()), width)) - len(below)
    shown = rows if every else best_rows(rows, room)
    table, columns = fitting_table(shown, console, width)
    console.print(table, width=width)
    if hidden := len(rows) - len(shown):
        below = [f"{hidden} more {'model' if hidden == 1 else 'models'} in the files below; {ALL}.", *below]
    meanings = "; ".join(meaning for column, meaning in MEANINGS.items() if column in columns)
    for line in (*wrapped(f"{meanings}.", width), *below):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def read_rows(path: Path) -> list[Row]:
    """The rows of leaderboard.csv."""
    with open(path, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    if not rows:
        raise DataError("the leaderboard is empty.", where=str(path), remedy="Delete it and run again.")
    return rows


def best_rows(rows: Sequence[Row], room: int) -> list[Row]:
    """As many rows as there is room for, in the leaderboard's order.

    The references come first, then the LEAST best models, then the best one of each bit width, then the next best ones.
    """
    ranked = [place for place, row in enumerate(rows) if row["rank"]]
    references = len(rows) - len(ranked)
    first: dict[str, int] = {}
    for place in ranked:
        first.setdefault(rows[place]["bits"], place)
    by_need = dict.fromkeys((*ranked[:LEAST], *first.values(), *ranked))
    kept = set(list(by_need)[: max(LEAST, room - references)])
    return [row for place, row in enumerate(rows) if place in kept or not row["rank"]]


def fitting_table(rows: Sequence[Row], console: Console, width: int) -> tuple[Table, Sequence[str]]:
    """The table with the most columns that fit, and its columns; references stand below a line."""
    grouped = any(row["group_size"] not in ("channel", "-") for row in rows)
    room = console.options.update(max_width=UNBOUNDED)
    for columns in ((*LEADING, *list(rows[0])[len(COLUMNS) :]), LEADING, TIED, MIDDLE, SHORT):
        kept = [column for column in columns if grouped or column != "group_size"]
        table = build(rows, kept)
        if Measurement.get(console, room, table).maximum <= width:
            break
    return table, kept


def build(rows: Sequence[Row], columns: Sequence[str]) -> Table:
    """The table with the given columns."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(escape(HEADINGS.get(column, column)), justify="left" if column in TEXT else "right", no_wrap=True)
    for row, following in zip(rows, (*rows[1:], None), strict=True):
        cells = [cell(row, column) for column in columns]
        last_ranked = bool(row["rank"]) and following is not None and not following["rank"]
        table.add_row(*cells, end_section=last_ranked, style=None if row["rank"] else "dim")
    return table


def cell(row: Row, column: str) -> str:
    """A cell's text: the interval with one decimal, to save room, and marks: of ties, and of what labels were used for."""
    if column == "rank":
        return marked_rank(row)
    if column == "ci_low":
        return f"{float(row['ci_low']):z.1f} – {float(row['ci_high']):z.1f}"
    mark = ("*" if row["chosen"] != "-" else " ") if column == "average" else ""
    return escape(row[column]) + mark


def everything_told(pairs: Sequence[Row], warnings: Sequence[Row], width: int) -> list[str]:
    """All verdicts of the tests, and all warnings."""
    return [*wrapped(verdict_sentence(pairs), width), *warning_lines(warnings)]


def briefly_told(pairs: Sequence[Row], warnings: Sequence[Row], width: int) -> list[str]:
    """The clear verdicts of the tests, cut where they take too many lines, and a warning, or how many there are."""
    warned = warning_lines(warnings)
    if len(warned) > 1:
        warned = [f"WARNINGS: {len(warned)}, in leaderboard.md; {ALL}."]
    said = cut(clear_verdicts(pairs), VERDICT_LINES, width)
    return [*said, *(line for warning in warned for line in cut(warning, WARNING_LINES, width))]


def warning_lines(warnings: Sequence[Row]) -> list[str]:
    """A line a warning, as long as it may be."""
    return [f"WARNING: {warning['where']}: {warning['message']}" for warning in warnings]


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most that width; paths and names stay whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def cut(text: str, lines: int, width: int) -> list[str]:
    """At most so many lines; what is left out is said."""
    whole = wrapped(text, width)
    if len(whole) <= lines:
        return whole
    mark = f" … ({ALL})"
    return [*whole[: lines - 1], textwrap.shorten(" ".join(whole[lines - 1 :]), width, placeholder=mark)]


def files_named(report: Path) -> str:
    """What to open."""
    files = [name for name in FILES if (report / name).exists()]
    page = f"Open {report / PAGE}. " if (report / PAGE).is_file() else ""
    return f"{page}In {report}: {', '.join(files)}"


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
