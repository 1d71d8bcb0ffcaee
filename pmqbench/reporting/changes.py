"""What changed between two reports on the same tasks: models that both have, by paired differences, and those that one has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pmqbench.errors import DataError, listed
from pmqbench.reporting.bootstrap import interval
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.statistics import Summary, summarise

NAMES = ["merge", "quantizer", "bits", "group_size"]
RECORDS = "records.parquet"


def read_records(report: Path) -> pd.DataFrame:
    """The records of a report's folder."""
    if not (report / RECORDS).is_file():
        raise DataError(f"no {RECORDS} here.", where=str(report), remedy="Name the folder of a report: results/suites/mini")
    return read_table(report / RECORDS)


def data_hashes(records: pd.DataFrame) -> dict[str, str]:
    """The data of every task, by their hash."""
    pairs = zip(records["task"], records["provenance"], strict=True)
    return {task: json.loads(made)["inputs"]["data"] for task, made in pairs}


def changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Differences of averages between two reports, model by model.

    Both are bootstrapped over the same draws of test examples and seeds, so the interval is that of the paired difference.

    Args:
        before, after: records as from `collect`.

    Returns:
        NAMES, before, after (averages), difference, ci_low, ci_high, all 0..1; NaN where one of the reports lacks the model.
        Rows with a difference come first, from the worst to the best.

    Raises:
        DataError: the reports are on different tasks or data.
    """
    data, data_after = data_hashes(before), data_hashes(after)
    if other := sorted(task for task in data | data_after if data.get(task) != data_after.get(task)):
        raise DataError(f"the data differ: {listed(other)}.", remedy="Compare reports on the same tasks and data.")
    tasks = list(data)
    old, new = summarise(before, tasks), summarise(after.assign(suite=before["suite"].iloc[0]), tasks)
    places = {name: place for place, name in enumerate(names_of(new))}
    rows = [row(name, old, place, new, places.pop(name, None)) for place, name in enumerate(names_of(old))]
    rows += [row(name, old, None, new, place) for name, place in places.items()]
    return pd.DataFrame(rows).sort_values("difference", kind="stable", ignore_index=True)


def names_of(summary: Summary) -> list[tuple[str, ...]]:
    """The names of a summary's models, as text."""
    told = summary.entries[NAMES].astype(object).fillna({"group_size": "-"})
    return [tuple(map(str, names)) for names in told.itertuples(index=False)]


def row(names: Sequence[str], old: Summary, before: int | None, new: Summary, after: int | None) -> dict[str, object]:
    """A model's row, given its number in both summaries, or None where it is missing."""
    entry = dict(zip(NAMES, names, strict=True))
    if before is not None:
        entry |= {"before": old.entries["average"][before]}
    if after is not None:
        entry |= {"after": new.entries["average"][after]}
    if before is None or after is None:
        return entry
    low, high = interval(new.replicates[after] - old.replicates[before])
    return entry | {"difference": entry["after"] - entry["before"], "ci_low": low, "ci_high": high}


def print_changes(table: pd.DataFrame, console: Console | None = None) -> None:
    """Prints what `changes` returns in percent; models that are the same in both reports are only counted."""
    console = console or Console()
    same = (table["difference"] == 0) & (table["ci_low"] == 0) & (table["ci_high"] == 0)
    screen = Table(*NAMES, "before", "after", "difference", "95 % interval", "", box=SIMPLE_HEAD, show_edge=False)
    for one in table[~same].to_dict("records"):
        numbers = [("-" if pd.isna(one[name]) else f"{100 * one[name]:z.2f}") for name in ("before", "after", "difference")]
        known = not pd.isna(one["difference"])
        span = f"{100 * one['ci_low']:z.2f} … {100 * one['ci_high']:z.2f}" if known else "-"
        screen.add_row(*(escape(one[name]) for name in NAMES), *numbers, span, verdict(one))
    if len(screen.rows):
        console.print(screen)
    console.print(
        f"{same.sum()} models are the same in both. Intervals are not corrected for the number of rows.", soft_wrap=True
    )


def verdict(one: dict[str, float]) -> str:
    """What a row says."""
    if pd.isna(one["before"]) or pd.isna(one["after"]):
        return "new" if pd.isna(one["before"]) else "gone"
    if one["ci_low"] > 0 or one["ci_high"] < 0:
        return "better" if one["ci_low"] > 0 else "worse"
    return "no clear difference"
