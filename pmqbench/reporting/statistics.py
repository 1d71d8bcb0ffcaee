"""Averages over tasks and seeds, their 95 % intervals, and paired differences between models.

Stands between the collected records and everything that shows numbers. An *entry* is one row of a leaderboard: the
pre-trained base, the individual experts, a merged model, or a quantized model with all its calibration seeds.

Intervals come from a two-way bootstrap. A replicate draws test examples with replacement within each task, the same
examples for all entries, and calibration seeds with replacement, the same seeds for all entries that share them, so that
differences between entries are paired in both. From S seeds S - 1 are drawn: drawing S would make the variance of the
mean too small by the factor (S - 1)/S, a third for three seeds (McCarthy and Snowden, 1985, "The bootstrap and finite
population sampling"). Metrics without per-example outcomes get normal errors with their records' standard error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pmqbench.errors import DataError, did_you_mean

log = logging.getLogger(__name__)

REPLICATES = 2000
RANDOM_SEED = 20260518
PERCENTILES = (2.5, 97.5)
DRAWS_HELD = 4_000_000  # drawn examples in memory at once
FULL_PRECISION = "full precision"
PRETRAINED, EXPERTS = "pre-trained", "individual experts"
ENTRY = ["kind", "merge", "quantizer", "bits", "group_size"]

SeedAverages = Mapping[int | None, float]


@dataclass(frozen=True)
class Summary:
    """What tables and plots show: E entries, T tasks, R replicates; all metrics 0..1.

    Attributes:
        suite: the suite's name.
        tasks: T names in suite order.
        entries: E rows in the records' order with ENTRY, seeds, average, ci_low, ci_high, se_examples, se_seeds,
            normalised, size_mb, compression. se_examples is the bootstrap's standard error with the seeds held fixed,
            se_seeds the standard error of the mean over seeds: 0 where no seed enters, NaN where only one was run.
        values, low, high: (E, T) task values, means over seeds, and their intervals.
        replicates: (R, E) bootstrapped averages.
        fixed_seeds: (R, E) the same with the seeds held fixed.
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
        entries: E rows with ENTRY.
        entry: (N,) entry number of each run.
        seeds: N seeds or None.
        table: the records.
        rows: (N, T) row number in `table` of each run's record on each task.
    """

    entries: pd.DataFrame
    entry: np.ndarray
    seeds: tuple[int | None, ...]
    table: pd.DataFrame
    rows: np.ndarray

    @property
    def membership(self) -> np.ndarray:
        """(N, E) 1 where a run belongs to an entry."""
        return np.equal.outer(self.entry, np.arange(len(self.entries))).astype(float)


def summarise(records: pd.DataFrame, tasks: Sequence[str]) -> Summary:
    """All figures of a suite.

    Args:
        records: as from `collect`.
        tasks: the suite's tasks in order.

    Raises:
        DataError: a record is missing, doubled or contradicts itself, or models were evaluated on different examples.
    """
    runs = arrange(records, tasks)
    membership = runs.membership
    seed_count = membership.sum(axis=0)
    equal, drawn_seeds = membership / seed_count, seed_weights(runs)
    run_values = runs.table["value"].to_numpy()[runs.rows]
    values = equal.T @ run_values
    low, high = np.zeros((2, *values.shape))
    replicates, fixed_seeds = np.zeros((2, REPLICATES, len(runs.entries)))
    for column, task in enumerate(tasks):
        drawn = bootstrap_examples(runs.table.iloc[runs.rows[:, column]], task, membership)
        average = (drawn * drawn_seeds) @ membership
        low[:, column], high[:, column] = np.percentile(average, PERCENTILES, axis=0)
        replicates += average / len(tasks)
        fixed_seeds += drawn @ equal / len(tasks)
    seed_averages = averages_by_seed(runs, run_values.mean(axis=1))
    ci_low, ci_high = np.percentile(replicates, PERCENTILES, axis=0)
    entries = runs.entries.assign(
        seeds=seed_count.astype(int),
        average=values.mean(axis=1),
        ci_low=ci_low,
        ci_high=ci_high,
        se_examples=fixed_seeds.std(axis=0, ddof=1),
        se_seeds=[seed_error(averages) for averages in seed_averages],
        normalised=normalise(values, runs.entries, tasks),
        size_mb=(size := sizes(runs, equal)),
        compression=compression(size, runs.entries),
    )
    suite = str(records["suite"].iloc[0])
    return Summary(suite, tuple(tasks), entries, values, low, high, replicates, fixed_seeds, seed_averages)


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
    return Runs(entries, np.array([entry for entry, _ in found]), tuple(seed for _, seed in found), table, rows)


def bootstrap_examples(rows: pd.DataFrame, task: str, membership: np.ndarray) -> np.ndarray:
    """One task's metric of every run when its test examples are drawn anew.

    Args:
        rows: the N runs' records on the task.
        task: its name.
        membership: (N, E) runs by entries.

    Returns:
        (R, N); all runs see the same examples. Without per-example outcomes the normal error is shared by an entry's seeds, as
        the examples are, and independent between entries, which overstates the error of their differences.
    """
    if rows["n"].nunique() > 1:
        raise DataError(f"models were evaluated on different numbers of examples: {sorted(set(rows['n']))}.", where=task)
    rng = np.random.default_rng([RANDOM_SEED, *task.encode()])
    values, known = rows["value"].to_numpy(), rows["correct"].notna().to_numpy()
    normal = rng.standard_normal((REPLICATES, membership.shape[1])) @ membership.T
    drawn = values + normal * rows["standard_error"].to_numpy()
    if known.any():
        outcomes = unpack(rows["correct"][known], int(rows["n"].iloc[0]))
        if np.abs(outcomes.mean(axis=0, dtype=float) - values[known]).max() > 1e-6:
            raise DataError("a record's value is not the mean of its outcomes.", where=task, remedy="Evaluate again.")
        drawn[:, known] = draw_means(outcomes, rng)
    return drawn


def unpack(packed: Sequence[bytes], n: int) -> np.ndarray:
    """Packed bits of K runs -> (n, K) float32 of 0 and 1."""
    return np.stack([np.unpackbits(np.frombuffer(bits, np.uint8), count=n) for bits in packed], axis=1).astype(np.float32)


def draw_means(outcomes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, K) outcomes -> (R, K) means over n examples drawn with replacement, the same ones for all K."""
    n = len(outcomes)
    means = []
    for start in range(0, REPLICATES, step := max(1, DRAWS_HELD // n)):
        replicates = min(step, REPLICATES - start)
        cells = rng.integers(n, size=(replicates, n)) + n * np.arange(replicates)[:, None]
        counts = np.bincount(cells.ravel(), minlength=replicates * n).reshape(replicates, n)
        means.append(counts.astype(np.float32) @ outcomes / n)  # sums below 2^24: exact in float32
    return np.concatenate(means)


def seed_weights(runs: Runs) -> np.ndarray:
    """(R, N) weight of each run within its entry when S - 1 of its S seeds are drawn with replacement; 1 for a single run."""
    weights = np.ones((REPLICATES, len(runs.seeds)))
    for entry in range(len(runs.entries)):
        members = [run for run in np.flatnonzero(runs.entry == entry) if runs.seeds[run] is not None]
        members.sort(key=lambda run: runs.seeds[run])
        if (size := len(members)) > 1:
            rng = np.random.default_rng([RANDOM_SEED, *(runs.seeds[run] for run in members)])
            drawn = rng.integers(size, size=(REPLICATES, size - 1))
            weights[:, members] = np.stack([(drawn == place).mean(axis=1) for place in range(size)], axis=1)
    return weights


def averages_by_seed(runs: Runs, averages: np.ndarray) -> tuple[SeedAverages, ...]:
    """(N,) averages of the runs -> per entry {seed: average}."""
    grouped: list[dict[int | None, float]] = [{} for _ in range(len(runs.entries))]
    for entry, seed, average in zip(runs.entry, runs.seeds, averages, strict=True):
        grouped[entry][seed] = float(average)
    return tuple(grouped)


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
    if useless := [task for task, value in zip(tasks, expert[0], strict=True) if value <= 0]:
        log.warning(
            "the expert of %s scores nothing, so no model's value can be normalised to the experts'.", ", ".join(useless)
        )
        return np.full(len(values), np.nan)
    return (values / expert).mean(axis=1)


def sizes(runs: Runs, equal: np.ndarray) -> np.ndarray:
    """(E,) MB an entry takes in storage; for the experts, that of all of them together."""
    size = runs.table["size_mb"].to_numpy()[runs.rows]
    experts = runs.entries["kind"].eq("expert").to_numpy()
    return np.where(experts, equal.T @ size.sum(axis=1), equal.T @ size.mean(axis=1))


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
        merge, bits, group_size, quantizer, reference, difference, ci_low, ci_high, se_examples, se_seeds (0..1) and the
        verdict: "better" or "worse" where the 95 % interval of the paired difference excludes zero, else "no clear difference".

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
    low, high = np.percentile(summary.replicates[:, number] - summary.replicates[:, other], PERCENTILES)
    return {
        **entry[["merge", "bits", "group_size", "quantizer"]],
        "reference": summary.entries["quantizer"][other],
        "difference": entry["average"] - summary.entries["average"][other],
        "ci_low": low,
        "ci_high": high,
        "se_examples": (summary.fixed_seeds[:, number] - summary.fixed_seeds[:, other]).std(ddof=1),
        "se_seeds": paired_seed_error(summary.seed_averages[number], summary.seed_averages[other]),
        "verdict": "better" if low > 0 else "worse" if high < 0 else "no clear difference",
    }


def paired_seed_error(first: SeedAverages, second: SeedAverages) -> float:
    """Standard error, from seeds, of a difference: over shared seeds if there are any, else of two independent means."""
    if shared := first.keys() & second.keys():
        return seed_error({seed: first[seed] - second[seed] for seed in shared})
    return float(np.hypot(seed_error(first), seed_error(second)))
