"""A suite's records as runs and entries, and what redrawing test examples does to each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pmqbench.errors import DataError
from pmqbench.reporting.bootstrap import REPLICATES, draw_errors, draw_means
from pmqbench.reporting.inference import covariance
from pmqbench.reporting.verdicts import FULL_PRECISION

PRETRAINED, EXPERTS = "pre-trained", "individual experts"
ENTRY = ["kind", "merge", "quantizer", "bits", "group_size"]


@dataclass(frozen=True)
class Runs:
    """The records as N runs, one per entry and seed.

    Attributes:
        suite: the suite's name.
        entries: E rows with ENTRY.
        members: per entry the numbers of its runs.
        seeds: N seeds or None.
        table: the records.
        rows: (N, T) row number in `table` of each run's record on each task.
    """

    suite: str
    entries: pd.DataFrame
    members: tuple[np.ndarray, ...]
    seeds: tuple[int | None, ...]
    table: pd.DataFrame
    rows: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """(N, T) of a column of the records."""
        return self.table[name].to_numpy()[self.rows]

    def seeds_of(self, entry: int) -> tuple[int | None, ...]:
        """An entry's seeds."""
        return tuple(self.seeds[run] for run in self.members[entry])

    def means(self, values: np.ndarray) -> np.ndarray:
        """(N, ...) of the runs -> (E, ...) means over each entry's runs."""
        return np.stack([values[runs].mean(axis=0) for runs in self.members])


def arrange(records: pd.DataFrame, tasks: Sequence[str]) -> Runs:
    """Orders the records of `tasks` by entry, seed and task; DataError for a missing or doubled one."""
    table = records[records["task"].isin(list(tasks))].reset_index(drop=True)
    table["merge"] = table["merge"].fillna(table["kind"].map({"base": PRETRAINED, "expert": EXPERTS}))
    table["quantizer"] = table["quantizer"].fillna(FULL_PRECISION)
    number = table.groupby(ENTRY, dropna=False, sort=False).ngroup()
    entries = table[ENTRY][~number.duplicated()].reset_index(drop=True)
    found: dict[tuple[int, int | None], dict[str, int]] = {}
    for row, (entry, seed, task) in enumerate(zip(number, table["seed"], table["task"], strict=True)):
        run = found.setdefault((entry, None if pd.isna(seed) else int(seed)), {})
        if task in run:
            raise DataError("two records for one model, seed and task.", where=f"{table['model'][row]}, {task}")
        run[task] = row
    for (entry, seed), run in found.items():
        if missing := [task for task in tasks if task not in run]:
            where = ", ".join(str(part) for part in (*entries.loc[entry, ["merge", "quantizer", "bits"]], f"seed {seed}"))
            raise DataError(f"no record for {', '.join(missing)}.", where=where, remedy="Evaluate the model there.")
    rows = np.array([[run[task] for task in tasks] for run in found.values()])
    entry_of = np.array([entry for entry, _ in found])
    members = tuple(np.flatnonzero(entry_of == entry) for entry in range(len(entries)))
    return Runs(str(table["suite"].iloc[0]), entries, members, tuple(seed for _, seed in found), table, rows)


def side_by_side(first: Runs, second: Runs) -> Runs:
    """The runs of two reports on the same tasks as one: the entries of the first, then those of the second."""
    return Runs(
        first.suite,
        pd.concat([first.entries, second.entries], ignore_index=True),
        (*first.members, *(members + len(first.seeds) for members in second.members)),
        first.seeds + second.seeds,
        pd.concat([first.table, second.table], ignore_index=True),
        np.vstack([first.rows, second.rows + len(first.table)]),
    )


@dataclass(frozen=True)
class TaskOutcomes:
    """What the N runs scored on one task's n test examples.

    Attributes:
        task: its name.
        values, errors: (N,) metric and its standard error.
        models: (N,) ids of the models.
        known: (N,) whether there are per-example outcomes.
        correct: (n, K) float32 of 0 and 1, of the K runs that have them.
    """

    task: str
    values: np.ndarray
    errors: np.ndarray
    models: np.ndarray
    known: np.ndarray
    correct: np.ndarray

    def of_run(self, run: int) -> np.ndarray:
        """(n,) outcomes of a run that has them."""
        return self.correct[:, self.known[:run].sum()]


def task_outcomes(runs: Runs, column: int, task: str) -> TaskOutcomes:
    """Unpacks one task's outcomes.

    Args:
        runs: of the suite.
        column: the task's number.
        task: its name.

    Raises:
        DataError: models were evaluated on different numbers of examples, or a value is not its outcomes' mean.
    """
    rows = runs.table.iloc[runs.rows[:, column]]
    if rows["n"].nunique() > 1:
        raise DataError(f"models were evaluated on different numbers of examples: {sorted(set(rows['n']))}.", where=task)
    n = int(rows["n"].iloc[0])
    values, errors, models = (rows[name].to_numpy() for name in ("value", "standard_error", "model"))
    known = rows["correct"].notna().to_numpy()
    correct = unpack(rows["correct"][known], n) if known.any() else np.empty((n, 0), np.float32)
    if np.abs(correct.mean(axis=0, dtype=float) - values[known]).max(initial=0) > 1e-6:
        raise DataError("a record's value is not the mean of its outcomes.", where=task, remedy="Evaluate again.")
    return TaskOutcomes(task, values, errors, models, known, correct)


def unpack(packed: Sequence[bytes], n: int) -> np.ndarray:
    """Packed bits of K runs -> (n, K) float32 of 0 and 1."""
    return np.stack([np.unpackbits(np.frombuffer(bits, np.uint8), count=n) for bits in packed], axis=1).astype(np.float32)


def bootstrap_examples(runs: Runs, outcomes: TaskOutcomes) -> np.ndarray:
    """One task's metric of every run when its test examples are drawn anew.

    Returns:
        (N, R); all runs see the same examples. Without per-example outcomes the normal error is shared by an entry's seeds, as
        the examples are, and independent between models, which overstates the error of their differences.
    """
    known = outcomes.known
    drawn = np.empty((len(known), REPLICATES))
    if known.any():
        drawn[known] = draw_means(outcomes.correct, runs.suite, outcomes.task)
    for members in runs.members:
        unknown = members[~known[members]]
        if len(unknown):
            normal = draw_errors(runs.suite, outcomes.task, list(outcomes.models[members]))
            drawn[unknown] = outcomes.values[unknown, None] + normal * outcomes.errors[unknown, None]
    return drawn


def example_covariance(runs: Runs, outcomes: TaskOutcomes) -> np.ndarray:
    """Covariance, from test examples, of one task's metric between entries, means over their seeds.

    Returns:
        (E, E). An element depends on its two entries alone, to the last bit, and equal entries have equal elements. Without
        per-example outcomes, entries of other models than one's own are taken as independent.
    """
    known = np.array([outcomes.known[members].all() for members in runs.members])
    result = np.zeros((len(known), len(known)))
    if known.any():
        places = np.cumsum(outcomes.known) - 1
        entries = [members for members, whole in zip(runs.members, known, strict=True) if whole]
        sums = np.stack([outcomes.correct[:, places[members]].sum(axis=1, dtype=float) for members in entries], axis=1)
        result[np.ix_(known, known)] = covariance(sums, np.array([len(members) for members in entries]))
    unknown = [(number, members) for number, members in enumerate(runs.members) if not known[number]]
    for number, members in unknown:
        for other, others in unknown:
            if sorted(outcomes.models[members]) == sorted(outcomes.models[others]):
                result[number, other] = outcomes.errors[members].mean() * outcomes.errors[others].mean()
    return result
