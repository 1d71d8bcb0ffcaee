"""What MLflow gets to see of records: names, parameters, metrics and tags of a run per model and seed, and of the suite's.

Loss curves of refined models are metrics with a history.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pmqbench.reporting.collect import LAYER_KEYS, flatten
from pmqbench.reporting.entries import EXPERTS, PRETRAINED
from pmqbench.reporting.verdicts import FULL_PRECISION

CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@|\b(?:hf|ghp|dapi)_?[A-Za-z0-9]{20,}\b")
FOREIGN = re.compile(r"[^\w\-./: ]")  # what MLflow does not take in a name
IDENTITY = ["model", "seed", "merge", "quantizer"]
LONGEST = 5000  # characters of a parameter or tag; MLflow takes 6000


@dataclass(frozen=True)
class Point:
    """A metric's value at a step of a refinement, `milliseconds` after it began."""

    name: str
    value: float
    step: int
    milliseconds: int


@dataclass(frozen=True)
class LoggedRun:
    """One run: `key` says which model and seed it is under which names, `digest` covers all that its records and curve say."""

    key: str
    name: str
    digest: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    history: Sequence[Point]


@dataclass(frozen=True)
class SuiteRun:
    """The parent of a suite's runs: what was compared, and every model's average over tasks and seeds."""

    digest: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def suite_run(records: pd.DataFrame) -> SuiteRun:
    """What the records of a suite say as a whole."""
    described = {
        name: ", ".join(map(str, records[name].dropna().unique())) for name in ("task", "merge", "quantizer", "bits", "seed")
    }
    params = {f"{name}s" if name != "bits" else name: text(value) for name, value in described.items()}
    names = records.apply(lambda row: "/".join(model_name(row)), axis=1)
    averages = records.groupby(names, sort=False)["value"].mean()
    metrics = {FOREIGN.sub("_", f"average/{name}"): float(value) for name, value in averages.items()}
    content = json.dumps([params, metrics], sort_keys=True)
    return SuiteRun(hashlib.sha256(content.encode()).hexdigest(), params, metrics)


def model_name(row: pd.Series) -> list[str]:
    """The parts of a model's name, as the suite calls it, without the seed."""
    if row["kind"] in ("base", "expert"):
        return [PRETRAINED if row["kind"] == "base" else EXPERTS]
    if row["kind"] == "merged":
        return [row["merge"], FULL_PRECISION]
    groups = [] if pd.isna(row["group_size"]) else [f"groups of {row['group_size']}"]
    return [row["merge"], row["quantizer"], f"{row['bits']} bits", *groups]


def run_name(row: pd.Series) -> str:
    """The name of a model's run: an expert's has its task, a calibrated model's its seed."""
    expert = [row["task"]] if row["kind"] == "expert" else []
    seed = [] if pd.isna(row["seed"]) else [f"seed {row['seed']}"]
    return ", ".join((*model_name(row), *expert, *seed))


def logged_runs(records: pd.DataFrame, curves: pd.DataFrame) -> list[LoggedRun]:
    """Groups records by model, seed and the suite's names: a model that a suite lists under two names is two runs."""
    curve_of = {named(rows): rows for _, rows in curves.groupby(list(LAYER_KEYS), dropna=False, sort=False)}
    models = (rows for _, rows in records.groupby(IDENTITY, dropna=False, sort=False))
    return [logged_run(rows, curve_of.get(named(rows), curves[:0])) for rows in models]


def named(rows: pd.DataFrame) -> tuple[Any, ...]:
    """The names and the seed that all of a model's rows have."""
    return tuple(None if pd.isna(value) else value for value in rows[list(LAYER_KEYS)].iloc[0])


def logged_run(rows: pd.DataFrame, curve: pd.DataFrame) -> LoggedRun:
    """The records of one model and seed, one per task, and its loss curve, which may be empty, as a run."""
    first = rows.iloc[0]
    names = {
        name: first[name]
        for name in ("kind", "merge", "quantizer", "bits", "group_size", "seed", "chosen")
        if pd.notna(first[name]) and first[name] != ""
    }
    provenance = {task: json.loads(text) for task, text in zip(rows["task"], rows["provenance"], strict=True)}
    made = {key: common(key, provenance) for key in sorted(set().union(*provenance.values()))}
    recipe = {f"recipe.{key}": value for key, value in flatten(made.pop("recipe", {})).items()}
    return LoggedRun(
        key="/".join(str(first[part]) for part in IDENTITY if pd.notna(first[part])),
        name=run_name(first),
        digest=digest(rows, curve),
        params={FOREIGN.sub("_", key): text(value) for key, value in (names | recipe).items()},
        metrics=metrics(rows),
        tags={FOREIGN.sub("_", f"provenance.{key}"): text(value) for key, value in made.items()},
        history=history(curve),
    )


def common(key: str, provenance: Mapping[str, Mapping[str, Any]]) -> Any:
    """The value all tasks have under a key, or {task: value} where they differ."""
    values = {task: entries.get(key) for task, entries in provenance.items()}
    distinct = {json.dumps(value, sort_keys=True) for value in values.values()}
    return next(iter(values.values())) if len(distinct) == 1 else values


def metrics(rows: pd.DataFrame) -> dict[str, float]:
    """Per task the metric, its standard error and the loss; over tasks average, seconds, memory and size."""
    per_task = {}
    for row in rows.itertuples():
        per_task[f"{row.metric}/{row.task}"] = row.value
        per_task[f"standard_error/{row.task}"] = row.standard_error
        per_task[f"loss/{row.task}"] = row.loss
    overall = {
        "average": rows["value"].mean(),
        "evaluation_seconds": rows["seconds"].sum(),
        "peak_memory_mb": rows["peak_memory_mb"].max(),
        "size_mb": rows["size_mb"].mean(),
        "calibration_seconds": rows["calibration_seconds"].mean(),
        "calibration_samples": rows["calibration_samples"].max(),
    }
    return {FOREIGN.sub("_", name): float(value) for name, value in (per_task | overall).items() if pd.notna(value)}


def history(curve: pd.DataFrame) -> list[Point]:
    """The losses of a curve where they were taken."""
    return [
        Point(f"refinement/{name}", float(getattr(row, name)), int(row.step), round(1000 * row.seconds))
        for row in curve.itertuples()
        for name in ("loss", "held_out")
        if pd.notna(getattr(row, name))
    ]


def digest(rows: pd.DataFrame, curve: pd.DataFrame) -> str:
    """SHA-256 of everything in the rows and the curve, which is empty of a model that was not refined."""
    content = rows.assign(correct=[bits.hex() if isinstance(bits, bytes) else None for bits in rows["correct"]])
    told = (table.to_json(orient="records", double_precision=15) for table in (content, curve))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def text(value: Any) -> str:
    """A value as MLflow keeps it: no credentials, not too long."""
    nested = isinstance(value, Mapping | list)
    clean = scrub(json.dumps(value, sort_keys=True, ensure_ascii=False) if nested else str(value))
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"


def scrub(plain: str) -> str:
    """Text without user names and passwords in URLs and without access tokens."""
    return CREDENTIALS.sub("", plain)
