"""What changed between two reports on the same tasks: models that both have, by paired differences, and those that one has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pmqbench.errors import DataError, listed
from pmqbench.reporting.collect import DTYPES, read_table
from pmqbench.reporting.comparisons import differences
from pmqbench.reporting.entries import arrange, side_by_side
from pmqbench.reporting.inference import holm
from pmqbench.reporting.statistics import averages_of
from pmqbench.reporting.verdicts import BETTER, LEVEL, UNCLEAR, WORSE

NAMES = ["merge", "quantizer", "bits", "group_size"]
RECORDS = "records.parquet"
NEW, GONE = "new", "gone"
FIGURES = ["before", "after", "difference", "ci_low", "ci_high"]
SHOWN = 8  # names of new or gone models


def read_records(report: Path) -> pd.DataFrame:
    """The records of a report's folder; DataError if there are none, or others than those of a leaderboard."""
    path = report / RECORDS
    if not path.is_file():
        raise DataError(f"no {RECORDS} here.", where=str(report), remedy="Name the folder of a report: results/suites/mini")
    records = read_table(path)
    if list(records.columns) != list(DTYPES):
        what = f"its columns are not {', '.join(DTYPES)}."
        raise DataError(what, where=str(path), remedy="Name the report of a leaderboard, or run it again.")
    return records


def data_hashes(records: pd.DataFrame) -> dict[str, str]:
    """The data of every task, by their hash."""
    pairs = zip(records["task"], records["provenance"], strict=True)
    return {task: json.loads(made)["inputs"]["data"] for task, made in pairs}


def changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Differences of averages between two reports, model by model, by the leaderboard's paired test.

    Args:
        before, after: records as from `collect`.

    Returns:
        NAMES, before, after (averages), difference, ci_low, ci_high, p, p_holm, all 0..1; NaN where one of the reports lacks
        the model. Holm's correction is over the models whose outcomes differ: `same` marks the others. From the worst
        difference to the best, those of one report last.

    Raises:
        DataError: the reports are on different tasks or data.
    """
    data, data_after = data_hashes(before), data_hashes(after)
    if other := sorted(task for task in data | data_after if data.get(task) != data_after.get(task)):
        raise DataError(f"the data differ: {listed(other)}.", remedy="Compare reports on the same tasks and data.")
    tasks = list(data)
    old, new = arrange(before, tasks), arrange(after, tasks)
    averages = averages_of(side_by_side(old, new), tasks)
    values = averages.entries["average"].to_numpy()
    first = {name: place for place, name in enumerate(names_of(old.entries))}
    second = {name: len(first) + place for place, name in enumerate(names_of(new.entries))}
    both = [name for name in first if name in second]
    pairs = (np.array([place[name] for name in both], int) for place in (second, first))
    told = differences(averages, *pairs)[["difference", "ci_low", "ci_high", "p"]].assign(name=both).set_index("name")
    told["same"] = (told[["difference", "ci_low", "ci_high"]] == 0).all(axis=1)
    told.loc[~told["same"], "p_holm"] = holm(told.loc[~told["same"], "p"])
    rows = [
        dict(zip(NAMES, name, strict=True))
        | {side: values[place[name]] for side, place in (("before", first), ("after", second)) if name in place}
        | (told.loc[[name]].iloc[0].to_dict() if name in first and name in second else {"same": False})
        for name in first | second
    ]
    return pd.DataFrame(rows).sort_values("difference", kind="stable", ignore_index=True)


def names_of(entries: pd.DataFrame) -> list[tuple[str, ...]]:
    """The models' names, as text."""
    told = entries[NAMES].astype(object).fillna({"group_size": "-"})
    return [tuple(map(str, names)) for names in told.itertuples(index=False)]


def print_changes(table: pd.DataFrame, console: Console | None = None) -> None:
    """Prints what `changes` returns, in percent: a table of what differs, and in sentences what is new, gone or the same."""
    console = console or Console()
    told = table.assign(verdict=list(map(verdict, table.to_dict("records"))))
    changed = told[told["difference"].notna() & ~told["same"].astype(bool)].to_dict("records")
    screen = Table("merge, quantizer", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("bits", "before", "after", "difference (95 %)", "p (Holm)", ""):
        screen.add_column(heading, no_wrap=True)
    for one in changed:
        before, after, difference, low, high = (f"{100 * one[name]:z.2f}" for name in FIGURES)
        grid = one["bits"] + ("" if one["group_size"] == "-" else f" g{one['group_size']}")
        name = escape(f"{one['merge']}, {one['quantizer']}")
        p = "< 0.0001" if one["p_holm"] < 0.0001 else f"{one['p_holm']:.2g}"
        screen.add_row(
            name,
            grid,
            before,
            after,
            f"{difference} ({low} … {high})",
            p,
            "unclear" if one["verdict"] == UNCLEAR else one["verdict"],
        )
    if changed:
        console.print(screen)
    for word in (NEW, GONE):
        names = [" ".join(names) for names in told.loc[told["verdict"] == word, NAMES[:3]].itertuples(index=False)]
        if names:
            console.print(escape(f"{word} ({len(names)}): {listed(names, SHOWN)}."), soft_wrap=True)
    counts = Counter(one["verdict"] for one in changed)
    said = [f"{counts[word]} {word}" for word in (BETTER, WORSE, UNCLEAR)]
    console.print(f"In both: {', '.join(said)}, {int(told['same'].astype(bool).sum())} the same.", soft_wrap=True)
    if changed:
        console.print(
            f"{BETTER}, {WORSE}: p below {LEVEL} after Holm's correction over all {len(changed)} that differ.", soft_wrap=True
        )


def verdict(one: Mapping[str, Any]) -> str:
    """What a row says."""
    if pd.isna(one["before"]) or pd.isna(one["after"]):
        return NEW if pd.isna(one["before"]) else GONE
    if one["p_holm"] < LEVEL:
        return BETTER if one["difference"] > 0 else WORSE
    return UNCLEAR
