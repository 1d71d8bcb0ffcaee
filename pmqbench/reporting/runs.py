"""What MLflow gets to see of a suite's records: names, parameters, metrics and tags of one run per model and seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pmqbench.reporting.collect import flatten

CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@|\b(?:hf|ghp|dapi)_?[A-Za-z0-9]{20,}\b")
FOREIGN = re.compile(r"[^\w\-./: ]")  # what MLflow does not take in a name
IDENTITY = ["model", "seed", "merge", "quantizer"]
LONGEST = 5000  # characters of a parameter or tag; MLflow takes 6000


@dataclass(frozen=True)
class LoggedRun:
    """One run: `key` says which model and seed it is under which names, `digest` covers all that its records say."""

    key: str
    name: str
    digest: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def logged_runs(records: pd.DataFrame) -> list[LoggedRun]:
    """Groups records by model, seed and the suite's names: a model that a suite lists under two names is two runs."""
    return [logged_run(rows) for _, rows in records.groupby(IDENTITY, dropna=False, sort=False)]


def logged_run(rows: pd.DataFrame) -> LoggedRun:
    """The records of one model and seed, one per task, as a run."""
    first = rows.iloc[0]
    names = {
        name: first[name] for name in ("kind", "merge", "quantizer", "bits", "group_size", "seed") if pd.notna(first[name])
    }
    provenance = {task: json.loads(text) for task, text in zip(rows["task"], rows["provenance"], strict=True)}
    made = {key: common(key, provenance) for key in sorted(set().union(*provenance.values()))}
    recipe = {f"recipe.{key}": value for key, value in flatten(made.pop("recipe", {})).items()}
    parts = (first["merge"], first["quantizer"], f"{first['bits']} bits", f"seed {first['seed']}")
    return LoggedRun(
        key="/".join(str(first[part]) for part in IDENTITY if pd.notna(first[part])),
        name=first["model"] if pd.isna(first["quantizer"]) else ", ".join(map(str, parts)),
        digest=digest(rows),
        params={FOREIGN.sub("_", key): text(value) for key, value in (names | recipe).items()},
        metrics=metrics(rows),
        tags={FOREIGN.sub("_", f"provenance.{key}"): text(value) for key, value in made.items()},
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
        "seconds": rows["seconds"].sum(),
        "peak_memory_mb": rows["peak_memory_mb"].max(),
        "size_mb": rows["size_mb"].mean(),
    }
    return {FOREIGN.sub("_", name): float(value) for name, value in (per_task | overall).items() if pd.notna(value)}


def digest(rows: pd.DataFrame) -> str:
    """SHA-256 of everything in the rows."""
    content = rows.assign(correct=[bits.hex() if isinstance(bits, bytes) else None for bits in rows["correct"]])
    return hashlib.sha256(content.to_json(orient="records", double_precision=15).encode()).hexdigest()


def text(value: Any) -> str:
    """A value as MLflow keeps it: no credentials, not too long."""
    nested = isinstance(value, Mapping | list)
    clean = scrub(json.dumps(value, sort_keys=True, ensure_ascii=False) if nested else str(value))
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"


def scrub(plain: str) -> str:
    """Text without user names and passwords in URLs and without access tokens."""
    return CREDENTIALS.sub("", plain)
