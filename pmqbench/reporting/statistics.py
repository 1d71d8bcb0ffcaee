"""Averages over tasks and seeds, their 95 % intervals, and paired differences between models.

Stands between the collected records and everything that shows numbers. An *entry* is one row of a leaderboard: the
pre-trained base, the individual experts, a merged model, or a quantized model with all its calibration seeds.

Intervals of averages come from a two-way bootstrap (`bootstrap.py`). A replicate draws test examples with replacement within
each task and calibration seeds with replacement. From S seeds S - 1 are drawn: drawing S would make the variance of the
mean too small by the factor (S - 1)/S, a third for three seeds (McCarthy and Snowden, 1985, "The bootstrap and finite
population sampling"). Metrics without per-example outcomes get normal errors with their records' standard error.

Differences are paired: both entries were scored on the same examples and share their seeds. Their standard errors need no
random draws; `inference.py` has their intervals and tests.

An entry's figures, and those of a difference but for the correction for many, are the same to the last bit whatever other
entries there are: draws do not depend on them, and sums run over its own runs alone or over integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pmqbench.errors import DataError, did_you_mean
from pmqbench.reporting.bootstrap import REPLICATES, interval, seed_weights
from pmqbench.reporting.entries import Runs, arrange, bootstrap_examples, example_covariance, task_outcomes
from pmqbench.reporting.inference import combined_error, holm, t_interval
from pmqbench.reporting.verdicts import ABOVE, BEST, BETTER, FULL_PRECISION, LEVEL, REFERENCE, UNCLEAR, WORSE

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


def compare(summary: Summary, reference: str) -> pd.DataFrame:
    """Each quantized entry against its merge at full precision and against a quantizer at the same merge, bits and group size.

    Args:
        summary: of the suite.
        reference: display name of the quantizer to compare with.

    Returns:
        As from `compare_pairs`; `against` is REFERENCE or FULL_PRECISION, each with a correction of its own.

    Raises:
        DataError: no entry has that quantizer.
    """
    pairs = comparable(summary.entries, reference)
    return pd.concat([compare_pairs(summary, against, found) for against, found in pairs.items()], ignore_index=True)


def comparable(entries: pd.DataFrame, reference: str) -> dict[str, list[tuple[int, int]]]:
    """REFERENCE and FULL_PRECISION -> numbers of each quantized entry and of the one that `compare` compares it with.

    Raises:
        DataError: no entry has the quantizer `reference`.
    """
    quantized = entries[entries["kind"] == "quantized"]
    names = set(quantized["quantizer"])
    if reference not in names:
        raise DataError(f'no quantizer "{reference}" to compare with.', remedy=did_you_mean(reference, names))
    grid = entries[["merge", "bits", "group_size"]].fillna(0).apply(tuple, axis=1)
    named, merged = (entries["quantizer"] == reference), entries["kind"] == "merged"
    return {
        against: [
            (number, other)
            for number in quantized.index
            for other in entries.index[chosen & (key == key[number])]
            if other != number
        ]
        for against, chosen, key in ((REFERENCE, named, grid), (FULL_PRECISION, merged, entries["merge"]))
    }


def compare_ranked(summary: Summary) -> pd.DataFrame:
    """Each ranked entry against the best one and against the one that stands above it, as from `compare_pairs`.

    Which entry is best is known from the same records, so p-values of differences to it are corrected over all pairs.
    """
    order = ranked(summary.entries)
    upper, _, p_holm = every_pair(summary, order)
    best = compare_pairs(summary, BEST, [(number, order[0]) for number in order[1:]], p_holm[upper == 0])
    above = compare_pairs(summary, ABOVE, list(zip(order[1:], order[:-1], strict=True)))
    return pd.concat([best, above], ignore_index=True)


def compare_all(summary: Summary, reference: str) -> pd.DataFrame:
    """What `compare` and `compare_ranked` return, below each other."""
    return pd.concat([compare(summary, reference), compare_ranked(summary)], ignore_index=True)


def every_pair(summary: Summary, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places in `order` (numbers of entries) of the first and the second of every pair, and p-values corrected over all."""
    upper, lower = np.triu_indices(len(order), 1)
    return upper, lower, differences(summary, order[upper], order[lower])["p_holm"].to_numpy()


def compare_pairs(
    summary: Summary, against: str, pairs: Sequence[tuple[int, int]], corrected: np.ndarray | None = None
) -> pd.DataFrame:
    """Paired differences between entries.

    Args:
        summary: of the suite.
        against: what the second of each pair stands for.
        pairs: numbers of entries; all of them are one family for the correction.
        corrected: their p-values, where these are corrected over more than these pairs.

    Returns:
        entry and other (the numbers), the first one's merge, bits, group_size and quantizer, `against`, `reference` (the
        other's quantizer), the figures of `differences` and the verdict: BETTER or WORSE where p_holm is below 0.05, else
        UNCLEAR.
    """
    first, second = np.array(pairs, int).reshape(-1, 2).T
    table = differences(summary, first, second)
    if corrected is not None:
        table["p_holm"] = corrected
    names = summary.entries.loc[first, ["merge", "bits", "group_size", "quantizer"]].reset_index(drop=True)
    others = summary.entries["quantizer"].to_numpy()[second]
    clear = table["p_holm"] < LEVEL
    verdict = np.select([clear & (table["difference"] > 0), clear & (table["difference"] < 0)], [BETTER, WORSE], UNCLEAR)
    who = names.assign(against=against, reference=others)
    who.insert(0, "entry", first)
    who.insert(1, "other", second)
    return pd.concat([who, table], axis=1).assign(verdict=verdict)


def differences(summary: Summary | Averages, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    """Differences of averages between P pairs of entries, all 0..1.

    Returns:
        difference (first minus second), ci_low, ci_high, p (two-sided), p_holm (of these P together), detectable (half the
        interval: the smallest difference that would be clear by itself), se_examples and se_seeds (NaN where one is unknown).
    """
    average, covariance = summary.entries["average"].to_numpy(), summary.covariance
    difference = average[first] - average[second]
    variance = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
    se_examples = np.sqrt(np.maximum(variance, 0))  # rounding may leave less
    averages = summary.seed_averages
    seeds = [paired_seed_error(averages[one], averages[two]) for one, two in zip(first, second, strict=True)]
    se_seeds, freedom = np.array(seeds, float).reshape(-1, 2).T
    half, p = t_interval(difference, se_examples, se_seeds, freedom)
    figures = {"difference": difference, "ci_low": difference - half, "ci_high": difference + half, "p": p, "p_holm": holm(p)}
    return pd.DataFrame({**figures, "detectable": half, "se_examples": se_examples, "se_seeds": se_seeds})


def paired_seed_error(first: SeedAverages, second: SeedAverages) -> tuple[float, float]:
    """Standard error, from seeds, of a difference, and its degrees of freedom (infinite where no seed enters or one was run).

    Over shared seeds if there are any, else of two independent means, by Welch and Satterthwaite.
    """
    shared = first.keys() & second.keys()
    parts = [{seed: first[seed] - second[seed] for seed in shared}] if shared else [first, second]
    return combined_error([seed_error(part) for part in parts], [len(part) - 1 for part in parts])
