"""What a comparison shows: a table by stage, then what differs, where and by how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pmqbench.reproducibility import MEASURED
from pmqbench.reproducibility.comparison import VERDICTS, Compared

SHOWN = 20  # differing files


def print_comparison(found: Sequence[Compared], console: Console | None = None) -> None:
    """Prints what `compare_folders` returns."""
    console = console or Console()
    table = Table("", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in VERDICTS:
        table.add_column(heading, justify="right")
    by_stage = sorted(found, key=lambda one: one.stage)
    for stage, files in groupby(by_stage, lambda one: one.stage):
        counts = Counter(one.verdict for one in files)
        table.add_row(stage, *(str(counts[verdict] or "-") for verdict in VERDICTS))
    console.print(table)
    console.print(f"Same values: all but {', '.join(MEASURED)}.", style="dim", highlight=False)
    differing = sorted((one for one in found if not one.same), key=lambda one: VERDICTS.index(one.verdict))
    for one in differing[:SHOWN]:
        console.print(escape(told(one)), highlight=False)
    if len(differing) > SHOWN:
        console.print(f"and {len(differing) - SHOWN} files more")
    console.print(f"{len(differing)} of {len(found)} files differ." if differing else f"All {len(found)} files are the same.")


def told(one: Compared) -> str:
    """A sentence on a file that differs."""
    if one.verdict == "only in one":
        return f"{one.name}: only in {one.where}"
    if not one.places:
        return f"{one.name}: {one.where} differ"
    by = "" if one.largest is None else f", by up to {one.largest:.3g}"
    count = "a value differs" if one.places == 1 else f"{one.places} values differ"
    return f"{one.name}: {count}{by}; first at {one.where}: {one.values[0]} and {one.values[1]}"
