"""Which entries stand beside the rows of a suite: on the same data and checkpoints, once, and not against what is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmqbench.errors import DataError, PMQError
from pmqbench.files import sha256_file
from pmqbench.reporting.comparisons import differences
from pmqbench.reporting.page.index import Key, row_keys, with_row_names
from pmqbench.reporting.statistics import summarise
from pmqbench.submissions.checks import Identity, check_entry, identity, identity_of
from pmqbench.submissions.rows import model_rows, reference_rows
from pmqbench.submissions.schema import Entry, TaskData, read_entry

CONTRADICTS = 0.01
"""p-value of the paired difference below which an entry and the same model's row here are not the same result."""
AGREEMENT = 0.98
"""Share of examples on which base and experts are right or wrong alike; the rest may be another processor's rounding."""
LONGEST_REASON = 600
ANOTHER = "what was sent in"
"""Name of an entry's merge beside the row that it confirms: no merge of a config can be called so."""


@dataclass(frozen=True)
class Rows:
    """The rows that entries are to stand beside.

    Attributes:
        tasks: what they were scored on; the suite's tasks in order.
        checkpoints: as of an entry.
        records: of these rows and the references, as from `collect`.
    """

    tasks: Mapping[str, TaskData]
    checkpoints: Mapping[str, str]
    records: pd.DataFrame


@dataclass
class Admission:
    """What became of a suite's entries.

    Attributes:
        rows: those of the suite, with the entries that were admitted; None where there are none at all.
        here: identity of every model that was computed here -> its row of the leaderboard.
        admitted: row of the leaderboard -> file of its entry.
        confirmed: row of the leaderboard that was computed here -> file of the entry of the same model.
        refused: file -> why.
        files: identity of the models of both -> file.
    """

    rows: Rows | None
    here: Mapping[Identity, Key] = field(default_factory=dict)
    admitted: dict[Key, str] = field(default_factory=dict)
    confirmed: dict[Key, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    files: dict[Identity, str] = field(default_factory=dict)


def read_entries(paths: Iterable[str | Path]) -> tuple[dict[str, Entry], dict[str, str]]:
    """Entries that agree with themselves by file, the oldest first, and those that do not with the reason."""
    entries, refused = {}, {}
    for path in map(str, paths):
        try:
            entry = read_entry(path)
            check_entry(entry, path)
            entries[path] = entry
        except PMQError as error:
            refused[path] = reason(error, path)
    return dict(sorted(entries.items(), key=lambda one: (one[1].submitted.date, one[0]))), refused


def admit(entries: Mapping[str, Entry], local: Rows | None) -> Admission:
    """Places a suite's entries beside the rows computed here; without such the oldest entry says on what all are.

    Args:
        entries: of one suite by file, the oldest first.
        local: the rows computed here.
    """
    found = Admission(local, {identity_of(model): key for key, model in models_of(local)} if local else {})
    for file, entry in entries.items():
        try:
            place(entry, file, found)
        except PMQError as error:
            found.refused[file] = reason(error, file)
    return found


def place(entry: Entry, file: str, found: Admission) -> None:
    """Adds an entry to those that are admitted or confirm a row; PMQError if it can be neither."""
    rows, made_by, key = (
        found.rows or Rows(entry.tasks, entry.checkpoints, reference_rows(entry)),
        identity(entry),
        key_of(entry),
    )
    check_like(entry, rows, file)
    if made_by in found.files:
        raise DataError(f"is the model of {found.files[made_by]}.", where=f"{file}: recipe", remedy="Send it in once.")
    if made_by in found.here:
        check_confirms(entry, rows, found.here[made_by], file)
        found.confirmed[found.here[made_by]] = file
    elif key in row_keys(with_row_names(rows.records)):
        what = f"another model has the names {', '.join(key)}."
        raise DataError(what, where=f"{file}: merge, quantizer, bits, group_size", remedy="Choose another name.")
    elif merges_of(rows).get(entry.merge, made_by[0]) != made_by[0]:  # comparisons under one merge go by its name
        what = f'another merge is called "{entry.merge}".'
        raise DataError(what, where=f"{file}: merge, recipe.merge", remedy="Give that one's recipe, or choose another name.")
    else:
        found.rows = Rows(rows.tasks, rows.checkpoints, pd.concat([rows.records, model_rows(entry)], ignore_index=True))
        found.admitted[key] = file
    found.files[made_by] = file


def reason(error: PMQError, file: str) -> str:
    """An error's message without the file that it begins with, fit to be shown: it may quote anything that the file holds."""
    told = str(error).removeprefix(f"{file}: ").replace("\n", " ")
    return told if len(told) <= LONGEST_REASON else told[: LONGEST_REASON - 1] + "…"


def key_of(entry: Entry) -> Key:
    """What tells an entry's row from others."""
    return row_keys(with_row_names(model_rows(entry)))[0]


def models_of(rows: Rows) -> list[tuple[Key, str]]:
    """Row of the leaderboard and model of every merged or quantized model."""
    models = rows.records[rows.records["kind"].isin(["merged", "quantized"])].drop_duplicates(["merge", "quantizer", "model"])
    return list(zip(row_keys(with_row_names(models)), models["model"], strict=True))


def merges_of(rows: Rows) -> dict[str, str]:
    """Name of a merge -> hash of its recipe."""
    return {key[0]: identity_of(model)[0] for key, model in models_of(rows)}


def check_like(entry: Entry, rows: Rows, file: str) -> None:
    """Raises DataError unless an entry is of the same tasks, data and checkpoints, and its references are right alike."""
    if list(entry.tasks) != list(rows.tasks):
        what = f"are {', '.join(entry.tasks)}, but the suite's are {', '.join(rows.tasks)}."
        raise DataError(what, where=f"{file}: tasks")
    for task, data in rows.tasks.items():
        for name in ("metric", "n", "sha256"):
            theirs, ours = getattr(entry.tasks[task], name), getattr(data, name)
            if theirs != ours:
                what = f"is {theirs}, but {ours} of the suite: it was scored on other data."
                raise DataError(what, where=f"{file}: tasks.{task}.{name}")
    for name, ours in rows.checkpoints.items():
        if entry.checkpoints[name] != ours:
            what = f"is {entry.checkpoints[name]}, but {ours} of the suite: it was made from another checkpoint."
            raise DataError(what, where=f"{file}: checkpoints.{name}")
    check_references(entry, rows, file)


def check_references(entry: Entry, rows: Rows, file: str) -> None:
    """Raises DataError if base or experts, the same models on the same data, are right on clearly other examples."""
    known = rows.records[rows.records["kind"].isin(["base", "expert"])].set_index(["kind", "task"])["correct"]
    for row in reference_rows(entry).itertuples():
        ours = known[row.kind, row.task]
        if row.correct is None or ours is None:
            continue
        pair = [np.unpackbits(np.frombuffer(packed, np.uint8), count=row.n) for packed in (row.correct, ours)]
        agreement = (pair[0] == pair[1]).mean()
        if agreement < AGREEMENT:
            what = f"the same model is right or wrong alike on only {100 * agreement:.1f} % of the examples here."
            field = "base" if row.kind == "base" else f"experts.{row.task}"
            raise DataError(
                what, where=f"{file}: {field}.results.{row.task}.correct", remedy="Evaluate anew, in the split's order."
            )


def check_confirms(entry: Entry, rows: Rows, here: Key, file: str) -> None:
    """Raises DataError if an entry's result is clearly another one than that of the same model computed here."""
    records = rows.records
    references = records["kind"].isin(["base", "expert"])
    ours = records[pd.Series(row_keys(with_row_names(records)), records.index) == here]
    theirs = model_rows(entry)
    if answers(ours) == answers(theirs):  # the same machine's, mostly
        return
    compared = [records[references], ours, theirs.assign(merge=ANOTHER)]
    summary = summarise(pd.concat(compared, ignore_index=True), list(rows.tasks))
    place = {key: number for number, key in enumerate(row_keys(with_row_names(summary.entries)))}
    first, second = place[(ANOTHER, *key_of(entry)[1:])], place[here]
    tested = differences(summary, np.array([first]), np.array([second])).iloc[0]
    if tested["p"] < CONTRADICTS:
        averages = 100 * summary.entries["average"]
        what = f"{averages[first]:.2f} on average, but the same model has {averages[second]:.2f} here (p = {tested['p']:.2g})."
        raise DataError(what, where=f"{file}: runs")


def answers(rows: pd.DataFrame) -> set[tuple[Any, ...]]:
    """What a model answered: seed, task, value and outcomes of each of its rows."""
    told = rows[["seed", "task", "value", "correct"]].astype(object)
    return set(told.where(told.notna(), None).itertuples(index=False, name=None))


def local_rows(records: pd.DataFrame, tasks: Sequence[str], data: Path) -> Rows:
    """The rows of a report.

    Args:
        records: of the report.
        tasks: of the suite in order.
        data: folder of all tasks' data.

    Raises:
        DataError: the report is of no merge, or test data that it was scored on are gone.
    """
    merged = records[records["kind"] == "merged"]
    if merged.empty:
        raise DataError("no merge was evaluated.", remedy="Run the suite again.")
    made = json.loads(merged["provenance"].iloc[0])["inputs"]
    first = merged.drop_duplicates("task").set_index("task")
    scored = {}
    for task in tasks:
        data_id = json.loads(first.loc[task, "provenance"])["inputs"]["data"]
        files = sorted((data / data_id).glob("test.*"))
        if not files:
            raise DataError("the test split is gone.", where=str(data / data_id), remedy="Run the suite again.")
        scored[task] = TaskData(metric=first.loc[task, "metric"], n=int(first.loc[task, "n"]), sha256=sha256_file(files[0]))
    return Rows(scored, {name: made[name] for name in ("base", *tasks)}, records)
