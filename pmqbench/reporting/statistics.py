"""Averages over tasks and seeds, their 95 % intervals, and paired differences between models.

Stands between the collected records and everything that shows numbers. An *entry* is one row of a leaderboard: the
pre-trained base, the individual experts, a merged model, or a quantized model with all its calibration seeds.

Intervals come from a two-way bootstrap (`bootstrap.py`). A replicate draws test examples with replacement within each task, the
same examples for all entries, and calibration seeds with replacement, the same seeds for all entries that share them, so that
differences between entries are paired in both. From S seeds S - 1 are drawn: drawing S would make the variance of the
mean too small by the factor (S - 1)/S, a third for three seeds (McCarthy and Snowden, 1985, "The bootstrap and finite
population sampling"). Metrics without per-example outcomes get normal errors with their records' standard error.

An entry's figures are the same to the last bit whatever other entries there are: draws do not depend on them, and sums run over
its own runs alone (a matrix product over all would add in an order that its shape decides).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pmqbench.errors import DataError, did_you_mean
from pmqbench.reporting.bootstrap import REPLICATES, draw_errors, draw_means, interval, monte_carlo_error, seed_weights
from pmqbench.reporting.verdicts import BETTER, FULL_PRECISION, UNCLEAR, WORSE

PRETRAINED, EXPERTS = "pre-trained", "individual experts"
ENTRY = ["kind", "merge", "quantizer", "bits", "group_size"]

SeedAverages = Mapping[int | None, float]


@dataclass(frozen=True)
class Summary:
    """What tables and plots show: E entries, T tasks, R replicates; all metrics 0..1.

    Attributes:
        suite: the suite's name.
        tasks: T names in suite order.
        entries: E rows in the records' order with ENTRY, seeds, average, ci_low, ci_high, se_examples, se_seeds, normalised,
            size_mb, compression, calibration_seconds (mean over seeds), calibration_samples (of a task, the most of all
            seeds) and chosen (names of the options that were chosen on validation data, "" for none). se_examples is the
            bootstrap's standard error with the seeds held fixed, se_seeds the standard error of the mean over seeds: 0 where
            no seed enters, NaN where only one was run.
        values, low, high: (E, T) task values, means over seeds, and their intervals.
        replicates: (E, R) bootstrapped averages.
        fixed_seeds: (E, R) the same with the seeds held fixed.
        seed_averages: per entry {seed: average over tasks}; the seed is None where none enters.
    """

    suite: str
    tasks: tuple[str, ...]
    entries: pd.DataFrame
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    replicates: np.ndarray
    fixed_seeds: np.ndarray
    seed_averages: tuple[SeedAverages, ...]


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


def summarise(records: pd.DataFrame, tasks: Sequence[str]) -> Summary:
    """All figures of a suite.

    Args:
        records: as from `collect`.
        tasks: the suite's tasks in order.

    Raises:
        DataError: a record is missing, doubled or contradicts itself, or models were evaluated on different examples.
    """
    runs = arrange(records, tasks)
    run_values = runs.column("value")
    values = runs.means(run_values)
    weights = {seeds: seed_weights(runs.suite, seeds) for seeds in set(map(runs.seeds_of, range(len(runs.entries))))}
    low, high = np.zeros((2, *values.shape))
    replicates, fixed_seeds = np.zeros((2, len(runs.entries), REPLICATES))
    for column, task in enumerate(tasks):
        drawn = bootstrap_examples(runs, column, task)
        average = np.stack(
            [(drawn[members] * weights[runs.seeds_of(entry)]).sum(axis=0) for entry, members in enumerate(runs.members)]
        )
        low[:, column], high[:, column] = interval(average)
        replicates += average / len(tasks)
        fixed_seeds += runs.means(drawn) / len(tasks)
    averages = run_values.mean(axis=1)
    samples, chosen = (runs.column(name)[:, 0] for name in ("calibration_samples", "chosen"))
    seed_averages = tuple({runs.seeds[run]: float(averages[run]) for run in members} for members in runs.members)
    ci_low, ci_high = interval(replicates)
    entries = runs.entries.assign(
        seeds=[len(members) for members in runs.members],
        average=values.mean(axis=1),
        ci_low=ci_low,
        ci_high=ci_high,
        se_examples=fixed_seeds.std(axis=1, ddof=1),
        se_seeds=[seed_error(averages) for averages in seed_averages],
        normalised=normalise(values, runs.entries, tasks),
        size_mb=(size := sizes(runs)),
        compression=compression(size, runs.entries),
        calibration_seconds=runs.means(runs.column("calibration_seconds")[:, 0]),
        calibration_samples=[int(samples[members].max()) for members in runs.members],
        chosen=[str(chosen[members[0]]) for members in runs.members],
    )
    return Summary(runs.suite, tuple(tasks), entries, values, low, high, replicates, fixed_seeds, seed_averages)


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


def bootstrap_examples(runs: Runs, column: int, task: str) -> np.ndarray:
    """One task's metric of every run when its test examples are drawn anew.

    Args:
        runs: of the suite.
        column: the task's number.
        task: its name.

    Returns:
        (N, R); all runs see the same examples. Without per-example outcomes the normal error is shared by an entry's seeds, as
        the examples are, and independent between models, which overstates the error of their differences.
    """
    rows = runs.table.iloc[runs.rows[:, column]]
    if rows["n"].nunique() > 1:
        raise DataError(f"models were evaluated on different numbers of examples: {sorted(set(rows['n']))}.", where=task)
    values, errors = rows["value"].to_numpy(), rows["standard_error"].to_numpy()
    known, models = rows["correct"].notna().to_numpy(), rows["model"].to_numpy()
    drawn = np.empty((len(rows), REPLICATES))
    if known.any():
        outcomes = unpack(rows["correct"][known], int(rows["n"].iloc[0]))
        if np.abs(outcomes.mean(axis=0, dtype=float) - values[known]).max() > 1e-6:
            raise DataError("a record's value is not the mean of its outcomes.", where=task, remedy="Evaluate again.")
        drawn[known] = draw_means(outcomes, runs.suite, task)
    for members in runs.members:
        if not known[members].all():
            normal = draw_errors(runs.suite, task, list(models[members]))
            unknown = members[~known[members]]
            drawn[unknown] = values[unknown, None] + normal * errors[unknown, None]
    return drawn


def unpack(packed: Sequence[bytes], n: int) -> np.ndarray:
    """Packed bits of K runs -> (n, K) float32 of 0 and 1."""
    return np.stack([np.unpackbits(np.frombuffer(bits, np.uint8), count=n) for bits in packed], axis=1).astype(np.float32)


def seed_error(averages: SeedAverages) -> float:
    """Standard error of the mean over seeds: 0 where no seed enters, NaN for a single seed."""
    if None in averages:
        return 0.0
    return float(np.std(list(averages.values()), ddof=1) / np.sqrt(len(averages))) if len(averages) > 1 else float("nan")


def normalise(values: np.ndarray, entries: pd.DataFrame, tasks: Sequence[str]) -> np.ndarray:
    """(E, T) task values -> (E,) mean over tasks of value / the task's expert's value; NaN where an expert is not above zero.

    Raises:
        DataError: there are no experts.
    """
    expert = values[entries["kind"].eq("expert").to_numpy()]
    if len(expert) != 1:
        raise DataError("every task needs one expert's record.", where=", ".join(tasks), remedy="Evaluate the experts.")
    if (expert <= 0).any():  # the report's warnings say so
        return np.full(len(values), np.nan)
    return (values / expert).mean(axis=1)


def sizes(runs: Runs) -> np.ndarray:
    """(E,) MB an entry takes in storage; for the experts, that of all of them together."""
    size = runs.column("size_mb")
    experts = runs.entries["kind"].eq("expert").to_numpy()
    return np.where(experts, runs.means(size.sum(axis=1)), runs.means(size.mean(axis=1)))


def compression(size: np.ndarray, entries: pd.DataFrame) -> np.ndarray:
    """(E,) how many times smaller than the pre-trained base, which is one model at full precision; NaN without it."""
    base = size[entries["kind"].eq("base").to_numpy()]
    return base[0] / size if len(base) else np.full(len(size), np.nan)


def compare(summary: Summary, reference: str) -> pd.DataFrame:
    """Each quantized entry against its merge at full precision and against a quantizer at the same merge, bits and group size.

    Args:
        summary: of the suite.
        reference: display name of the quantizer to compare with.

    Returns:
        merge, bits, group_size, quantizer, reference, difference, ci_low, ci_high, mc_error (of these two), se_examples,
        se_seeds (all 0..1) and the verdict: BETTER or WORSE where the 95 % interval of the paired difference excludes zero by
        more than mc_error, else UNCLEAR.

    Raises:
        DataError: no entry has that quantizer.
    """
    entries = summary.entries
    quantized = entries[entries["kind"] == "quantized"]
    names = set(quantized["quantizer"])
    if reference not in names:
        raise DataError(f'no quantizer "{reference}" to compare with.', remedy=did_you_mean(reference, names))
    grid = entries[["merge", "bits", "group_size"]].fillna(0).apply(tuple, axis=1)
    rows = []
    for number in quantized.index:
        peers = (entries["quantizer"] == reference) & (grid == grid[number])
        peers |= (entries["kind"] == "merged") & (entries["merge"] == entries["merge"][number])
        rows += [compare_pair(summary, number, other) for other in entries.index[peers] if other != number]
    return pd.DataFrame(rows)


def compare_pair(summary: Summary, number: int, other: int) -> dict[str, object]:
    """One row of `compare`: entry `number` minus entry `other`."""
    entry = summary.entries.loc[number]
    differences = summary.replicates[number] - summary.replicates[other]
    low, high = interval(differences)
    error = monte_carlo_error(differences)
    return {
        **entry[["merge", "bits", "group_size", "quantizer"]],
        "reference": summary.entries["quantizer"][other],
        "difference": entry["average"] - summary.entries["average"][other],
        "ci_low": low,
        "ci_high": high,
        "mc_error": error,
        "se_examples": (summary.fixed_seeds[number] - summary.fixed_seeds[other]).std(ddof=1),
        "se_seeds": paired_seed_error(summary.seed_averages[number], summary.seed_averages[other]),
        "verdict": BETTER if low > error else WORSE if high < -error else UNCLEAR,
    }


def paired_seed_error(first: SeedAverages, second: SeedAverages) -> float:
    """Standard error, from seeds, of a difference: over shared seeds if there are any, else of two independent means."""
    if shared := first.keys() & second.keys():
        return seed_error({seed: first[seed] - second[seed] for seed in shared})
    return float(np.hypot(seed_error(first), seed_error(second)))
