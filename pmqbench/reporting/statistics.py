"""Averages over tasks and seeds, and their 95 % intervals.

Stands between the collected records and everything that shows numbers. An *entry* is one row of a leaderboard: the
pre-trained base, the individual experts, a merged model, or a quantized model with all its calibration seeds.

Intervals of averages come from a two-way bootstrap (`bootstrap.py`). A replicate draws test examples with replacement within
each task and calibration seeds with replacement. From S seeds S - 1 are drawn: drawing S would make the variance of the
mean too small by the factor (S - 1)/S, a third for three seeds (McCarthy and Snowden, 1985, "The bootstrap and finite
population sampling"). Metrics without per-example outcomes get normal errors with their records' standard error.

`comparisons.py` has the paired differences. An entry's figures are the same to the last bit whatever other entries there are:
draws do not depend on them, and sums run over its own runs alone or over integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pmqbench.errors import DataError
from pmqbench.reporting.bootstrap import REPLICATES, interval, seed_weights
from pmqbench.reporting.entries import Runs, arrange, bootstrap_examples, example_covariance, task_outcomes

REFERENCE_KINDS = ("base", "expert")

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
            standard error of the unweighted mean of tasks with the seeds held fixed, se_seeds that of the mean over seeds: 0
            where no seed enters, NaN where only one was run.
        values, low, high: (E, T) task values, means over seeds, and their intervals.
        replicates: (E, R) bootstrapped averages.
        covariance: (E, E) of the averages, from test examples with the seeds held fixed.
        seed_averages: per entry {seed: average over tasks}; the seed is None where none enters.
        runs: the records behind all of this.
    """

    suite: str
    tasks: tuple[str, ...]
    entries: pd.DataFrame
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    replicates: np.ndarray
    covariance: np.ndarray
    seed_averages: tuple[SeedAverages, ...]
    runs: Runs


@dataclass(frozen=True)
class Averages:
    """What differences between averages need, without anything drawn at random.

    Attributes:
        entries: E rows with ENTRY and average.
        covariance, seed_averages: as in `Summary`.
    """

    entries: pd.DataFrame
    covariance: np.ndarray
    seed_averages: tuple[SeedAverages, ...]


def averages_of(runs: Runs, tasks: Sequence[str]) -> Averages:
    """Averages over tasks; DataError for models that were evaluated on different examples."""
    outcomes = (task_outcomes(runs, column, task) for column, task in enumerate(tasks))
    covariance = sum(example_covariance(runs, one) for one in outcomes) / len(tasks) ** 2
    values = runs.column("value")
    return Averages(runs.entries.assign(average=runs.means(values).mean(axis=1)), covariance, averages_by_seed(runs))


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
    replicates = np.zeros((len(runs.entries), REPLICATES))
    covariance = np.zeros((len(runs.entries), len(runs.entries)))
    for column, task in enumerate(tasks):
        outcomes = task_outcomes(runs, column, task)
        drawn = bootstrap_examples(runs, outcomes)
        average = np.stack(
            [(drawn[members] * weights[runs.seeds_of(entry)]).sum(axis=0) for entry, members in enumerate(runs.members)]
        )
        low[:, column], high[:, column] = interval(average)
        replicates += average / len(tasks)
        covariance += example_covariance(runs, outcomes) / len(tasks) ** 2
    samples, chosen = (runs.column(name)[:, 0] for name in ("calibration_samples", "chosen"))
    seed_averages = averages_by_seed(runs)
    ci_low, ci_high = interval(replicates)
    entries = runs.entries.assign(
        seeds=[len(members) for members in runs.members],
        average=values.mean(axis=1),
        ci_low=ci_low,
        ci_high=ci_high,
        se_examples=np.sqrt(covariance.diagonal()),
        se_seeds=[seed_error(averages) for averages in seed_averages],
        normalised=normalise(values, runs.entries, tasks),
        size_mb=(size := sizes(runs)),
        compression=compression(size, runs.entries),
        calibration_seconds=runs.means(runs.column("calibration_seconds")[:, 0]),
        calibration_samples=[int(samples[members].max()) for members in runs.members],
        chosen=[str(chosen[members[0]]) for members in runs.members],
    )
    return Summary(runs.suite, tuple(tasks), entries, values, low, high, replicates, covariance, seed_averages, runs)


def averages_by_seed(runs: Runs) -> tuple[SeedAverages, ...]:
    """Per entry {seed: average over tasks}."""
    averages = runs.column("value").mean(axis=1)
    return tuple({runs.seeds[run]: float(averages[run]) for run in members} for members in runs.members)


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


def ranking(entries: pd.DataFrame) -> np.ndarray:
    """Entries' numbers by rounded average, best first, the references last; equals keep their order."""
    return np.lexsort([-rounded(entries), entries["kind"].isin(REFERENCE_KINDS)])  # stable


def ranked(entries: pd.DataFrame) -> np.ndarray:
    """The same without the references."""
    order = ranking(entries)
    return order[~entries["kind"].isin(REFERENCE_KINDS).to_numpy()[order]]


def rounded(entries: pd.DataFrame) -> pd.Series:
    """Averages as they are shown, in percent."""
    return (100 * entries["average"]).round(2)


def standard_errors(entries: pd.DataFrame) -> pd.Series:
    """Of the averages, from examples and, where more than one was run, seeds."""
    return np.hypot(entries["se_examples"], entries["se_seeds"].fillna(0))
