"""Paired differences between entries: which pairs a report compares, and the test and the interval of each.

Both entries were scored on the same examples and, in one suite, have the same seeds. The standard errors need no random draws;
`inference.py` has the intervals and tests. A difference's figures, but for the correction for many, are the same to the last
bit whatever other entries there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pmqbench.errors import DataError, did_you_mean
from pmqbench.reporting.inference import combined_error, holm, t_interval
from pmqbench.reporting.statistics import Averages, SeedAverages, Summary, ranked, seed_error
from pmqbench.reporting.verdicts import ABOVE, BEST, BETTER, FULL_PRECISION, LEVEL, REFERENCE, UNCLEAR, WORSE


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

    Of the seeds' differences if both have the same seeds, else of two independent means, by Welch and Satterthwaite; a single
    seed is taken to vary as the other's seeds do. A few shared seeds say little of means over others.
    """
    fewer, more = sorted((first, second), key=len)
    if len(fewer) == 1 < len(more) and None not in fewer:
        return seed_error(more) * float(np.sqrt(1 + len(more))), len(more) - 1.0
    paired = first.keys() == second.keys()
    parts = [{seed: first[seed] - second[seed] for seed in first}] if paired else [first, second]
    return combined_error([seed_error(part) for part in parts], [len(part) - 1 for part in parts])
