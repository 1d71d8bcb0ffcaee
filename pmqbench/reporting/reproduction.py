"""Our numbers beside the published ones: reproduction.csv and reproduction.md, from the collected records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from pmqbench.files import write_text
from pmqbench.reporting.gates import REMEDY, published_warnings
from pmqbench.reporting.published import AGREES, AVERAGE, NOT_RUN, judge, tally
from pmqbench.reporting.tables import markdown_table, two_decimals, write_csv

NUMBERS = ("ours", "published", "difference", "tolerance")
COLUMNS = ("setting", "kind", "merge", "quantizer", "task", *NUMBERS, "verdict", "source")

HOW = """\
Percent (Spearman's rho times 100); ours is the mean over calibration seeds. A setting is compared with each of our models that
has its method and options, whatever their names; *not run* means that there is none. The tolerance is per task, since
published numbers drift between library versions where images are JPEG; for an average it is the mean of its tasks'."""


def compare_published(
    records: pd.DataFrame, pairs: Sequence[Mapping[str, Any]], tolerances: Mapping[str, float]
) -> pd.DataFrame:
    """One row for every published number and model of ours.

    Args:
        records: as from `collect`.
        pairs: as from `published.pair_up`.
        tolerances: points by task and for AVERAGE.

    Returns:
        COLUMNS; numbers in percent and points, NaN where not run.
    """
    lines = []
    for pair in pairs:
        ours = means(records[records["model"].isin(pair["models"])], pair["values"])
        known = {key: pair[key] for key in ("kind", "merge", "quantizer", "source")}
        for task, published in pair["values"].items():
            lines.append({"setting": pair["label"], "task": task} | known | judge(ours.get(task), published, tolerances[task]))
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype(dict.fromkeys(NUMBERS, "float64"))


def means(records: pd.DataFrame, published: Mapping[str, float]) -> dict[str, float]:
    """Percent by task, mean over seeds, and AVERAGE over the published tasks unless one of them was not run."""
    ours = (100 * records.groupby("task")["value"].mean()).to_dict()
    tasks = [task for task in published if task != AVERAGE] or list(ours)
    if tasks and set(tasks) <= set(ours):
        ours[AVERAGE] = fmean(ours[task] for task in tasks)
    return ours


def settings(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """A heading for each published row and model of ours, with its lines of `compare_published`."""
    keys = ["setting", "merge", "quantizer"]
    found = []
    for (setting, *names), lines in table.groupby(keys, sort=False, dropna=False):
        ours = " + ".join(name for name in names if pd.notna(name))
        found.append((f"{setting} (ours: {ours})" if ours else setting, lines))
    return found


def text(table: pd.DataFrame) -> pd.DataFrame:
    """The same with numbers as text of two decimals, empty where not run."""
    numbers = table[list(NUMBERS)].map(two_decimals)
    return table.assign(**numbers).fillna("")


def reproduction_page(suite: str, table: pd.DataFrame, gates: Mapping[str, Any]) -> str:
    """The page reproduction.md.

    Args:
        suite: name of the report.
        table: as from `compare_published`.
        gates: as from `gates.check_experts`.
    """
    parts = [f"# Reproduction: {suite}", f"Of {len(table)} published numbers {tally(list(table['verdict']))}."]
    if warnings := published_warnings(gates):
        count = f"{len(warnings)} of {len(gates['experts'])}"
        lines = [f"**{count} experts differ from their published numbers by more than is tolerated.** {REMEDY}", *warnings]
        parts.append("\n>\n".join(f"> {line}" for line in lines))
    if gates["unchecked"]:
        parts.append(f"Experts without a published value: {', '.join(gates['unchecked'])}.")
    shown = settings(table)
    parts += ["## Averages", markdown_table(averages(shown)), HOW]
    for heading, lines in shown:
        if set(lines["task"]) != {AVERAGE} and set(lines["verdict"]) != {NOT_RUN}:
            body = markdown_table(text(lines)[["task", *NUMBERS, "verdict"]])
            parts += [f"## {heading}", f"Published: {lines['source'].iloc[0]}", body]
    return "\n\n".join(parts) + "\n"


def averages(shown: Sequence[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """A row a setting: its average, and how many of its tasks agree."""
    rows = []
    for heading, lines in shown:
        tasks = lines[lines["task"] != AVERAGE]
        agreeing = f"{(tasks['verdict'] == AGREES).sum()} of {len(tasks)}" if len(tasks) else "-"
        rows.append(text(lines[lines["task"] == AVERAGE]).assign(setting=heading, tasks=agreeing))
    return pd.concat(rows)[["setting", *NUMBERS, "verdict", "tasks", "source"]].rename(columns={"tasks": "tasks that agree"})


def write_reproduction(suite: str, table: pd.DataFrame, gates: Mapping[str, Any], *, csv: Path, markdown: Path) -> None:
    """Writes reproduction.csv and reproduction.md; arguments as for `reproduction_page`."""
    write_csv(csv, text(table))
    write_text(markdown, reproduction_page(suite, table, gates))
