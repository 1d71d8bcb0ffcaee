"""What stands behind a row of a leaderboard: tasks with intervals and seeds, recipe, provenance, layers, files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pmqbench.reporting.collect import flatten
from pmqbench.reporting.page.index import Key, index_entries, row_keys, with_row_names
from pmqbench.reporting.plots.deviations_by_layer import MERGING, QUANTIZATION, deviations
from pmqbench.reporting.runs import common, scrub
from pmqbench.reporting.statistics import Summary
from pmqbench.reporting.verdicts import FULL_PRECISION

MERGED = (FULL_PRECISION, "32", "-")  # of a row's key: the merge of a quantized model
LAYER_FIGURES = 4  # significant ones of a deviation
FILES = ("seed", "folder", "records", "exported")
LEFT_OUT = ("inputs", "recipe")  # of a provenance: checksums are in the records, the recipe has a place of its own


@dataclass(frozen=True)
class Details:
    """Details by row; provenances and names of layers, which rows share, stand here once."""

    rows: dict[Key, dict[str, Any]]
    provenances: list[dict[str, Any]]
    layers: list[str]


def gather_details(records: pd.DataFrame, layers: pd.DataFrame, summary: Summary, files: pd.DataFrame) -> Details:
    """Details of every entry.

    Args:
        records, layers: of the report.
        summary: of the records.
        files: as from `index.named_files`.
    """
    records_of, files_of = by_row(with_row_names(records)), by_row(files)
    names, deviations_of = layer_deviations(layers)
    rows, provenances = {}, {}
    for entry, key in enumerate(row_keys(with_row_names(summary.entries))):
        recipe, provenance = recipe_and_provenance(records_of[key])
        merged = (key[0], *MERGED)
        start = recipe_and_provenance(records_of[merged])[0] if merged != key and merged in records_of else {}
        rows[key] = {
            "tasks": task_values(summary, entry, records_of[key]),
            "recipe": {f"merge.{name}": value for name, value in start.items()} | recipe,
            "provenance": provenances.setdefault(json.dumps(provenance), len(provenances)),
            "layers": deviations_of.get(key, []),
            "files": [{name: model[name] for name in FILES} for model in index_entries(files_of[key])],
        }
    return Details(rows, [json.loads(provenance) for provenance in provenances], names)


def by_row(table: pd.DataFrame) -> dict[Key, pd.DataFrame]:
    """The rows of a table with a leaderboard's names, by row of the leaderboard."""
    return dict(iter(table.groupby(pd.Index(row_keys(table), tupleize_cols=False), sort=False)))


def task_values(summary: Summary, entry: int, records: pd.DataFrame) -> list[dict[str, Any]]:
    """Per task the interval of the mean over seeds, and every seed's value, in percent."""
    seeds = dict(iter(records.groupby("task")))
    return [
        {
            "task": task,
            "metric": str(seeds[task]["metric"].iloc[0]),
            "n": int(seeds[task]["n"].iloc[0]),
            **{name: percent(part[entry, place]) for name, part in parts(summary)},
            "seeds": {"" if pd.isna(row.seed) else str(row.seed): percent(row.value) for row in seeds[task].itertuples()},
        }
        for place, task in enumerate(summary.tasks)
    ]


def parts(summary: Summary) -> list[tuple[str, Any]]:
    """The tables of a summary by task, named."""
    return [("value", summary.values), ("low", summary.low), ("high", summary.high)]


def percent(value: float) -> float:
    """A share in percent with two decimals."""
    return round(100 * float(value), 2)


def recipe_and_provenance(records: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the models of a row are made of, and by what; where tasks differ, by task. Of several seeds the first."""
    first = records[records["seed"].isna() | (records["seed"] == records["seed"].min())]
    told = {task: json.loads(scrub(text)) for task, text in zip(first["task"], first["provenance"], strict=True)}
    made = {key: common(key, told) for key in sorted(set().union(*told.values()))}
    recipe = flatten(made.get("recipe") or {})
    recipe.pop("seed", None)
    return recipe, flatten({key: value for key, value in made.items() if key not in LEFT_OUT})


def layer_deviations(layers: pd.DataFrame) -> tuple[list[str], dict[Key, list[list[float | None]]]]:
    """The layers' names in forward order, and per row [quantization, merging deviation] of each, means over seeds."""
    if layers.empty:
        return [], {}
    table = with_row_names(layers.assign(kind="quantized", **deviations(layers)))
    names = table.drop_duplicates("index").set_index("index")["layer"].sort_index()
    means = {key: rows.groupby("index")[[QUANTIZATION, MERGING]].mean() for key, rows in by_row(table).items()}
    lines = {key: table.reindex(names.index).to_numpy() for key, table in means.items() if table.notna().any(axis=None)}
    return list(names), {key: [[figures(value) for value in pair] for pair in line] for key, line in lines.items()}


def figures(value: float) -> float | None:
    """A number with LAYER_FIGURES significant figures; None where there is none."""
    return None if pd.isna(value) else float(f"{value:.{LAYER_FIGURES}g}")
