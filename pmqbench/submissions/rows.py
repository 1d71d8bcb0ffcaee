"""Entries as rows of the table of collected records, which is what leaderboards are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from pmqbench.costs import Costs
from pmqbench.recipes import FULL_PRECISION_BITS
from pmqbench.records import Record
from pmqbench.reporting.collect import DTYPES, row_of
from pmqbench.submissions.checks import identity
from pmqbench.submissions.schema import Entry, Run

UNKNOWN = float("nan")


def model_of(entry: Entry) -> str:
    """The folder that the model's records have or would have, without the seed."""
    return entry.recipe.model or "/".join(("submitted", *identity(entry)))


def model_rows(entry: Entry) -> pd.DataFrame:
    """The runs of an entry, with columns as from `collect`."""
    names = {name: getattr(entry, name) for name in ("merge", "quantizer", "bits", "group_size", "chosen")}
    kind = "merged" if entry.quantizer is None else "quantized"
    rows = []
    for run in entry.runs:
        model = model_of(entry) if run.seed is None else f"{model_of(entry)}/seed-{run.seed}"
        rows += run_rows(entry, run, model, kind, names)
    return table(rows)


def reference_rows(entry: Entry) -> pd.DataFrame:
    """The base and the experts of an entry, with columns as from `collect`."""
    names = {"merge": None, "quantizer": None, "bits": FULL_PRECISION_BITS, "group_size": None, "chosen": ""}
    rows = list(run_rows(entry, entry.base, f"base/{entry.checkpoints['base']}", "base", names))
    for task, run in entry.experts.items():
        rows += run_rows(entry, run, f"experts/{entry.checkpoints[task]}", "expert", names)
    return table(rows)


def run_rows(entry: Entry, run: Run, model: str, kind: str, names: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row a task."""
    made = {"recipe": entry.recipe.model_dump(), "inputs": dict(entry.checkpoints), **entry.provenance}
    for task, result in run.results.items():
        record = Record(
            model=model,
            kind=kind,
            task=task,
            seed=run.seed,
            metric=entry.tasks[task].metric,
            value=result.value,
            n=entry.tasks[task].n,
            standard_error=result.standard_error,
            loss=result.loss,
            correct=result.correct,
            size_bytes=run.size_bytes,
            seconds=UNKNOWN,
            peak_memory_mb=UNKNOWN,
            provenance=made,
            costs=Costs(**run.costs.model_dump()),
        )
        yield row_of(entry.suite, record, {"path": model, **names})


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as from `row_of` -> a table as from `collect`."""
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)
