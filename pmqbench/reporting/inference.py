"""Tests and intervals of differences: Student's t with Welch and Satterthwaite's degrees of freedom, Holm, and McNemar.

A difference varies with test examples, whose thousands leave no doubt about their standard error (infinite degrees of freedom),
and with calibration seeds, whose standard error comes from a few. The sum of both variances has the degrees of freedom of
Satterthwaite (1946, "An approximate distribution of estimates of variance components"). With three seeds, percentiles of a
bootstrap over seeds exclude zero for one in six pairs of equal models where seeds vary three times as much as examples; this
interval for one in fourteen, and for one in twenty where seeds vary as they do on the shipped suites.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from pmqbench.reporting.verdicts import LEVEL


def t_interval(
    difference: np.ndarray, se_examples: np.ndarray, se_seeds: np.ndarray, seed_freedom: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Half the width of the 95 % interval of each difference, and its two-sided p-value; p < 0.05 where that excludes zero.

    Args:
        difference: (P,).
        se_examples: (P,) its standard error from test examples.
        se_seeds: (P,) that from calibration seeds; NaN where it is not known counts as 0.
        seed_freedom: (P,) degrees of freedom of `se_seeds`.
    """
    seeds = np.nan_to_num(se_seeds)
    error = np.hypot(se_examples, seeds)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(seeds > 0, error**4 / seeds**4 * seed_freedom, np.inf)
        ratio = np.where(difference == 0, 0.0, np.abs(difference) / error)
    return error * stats.t.ppf(1 - LEVEL / 2, freedom), 2 * stats.t.sf(ratio, freedom)


def combined_error(errors: Sequence[float], freedom: Sequence[float]) -> tuple[float, float]:
    """The standard error of a sum of independent terms, and its degrees of freedom by Welch and Satterthwaite.

    Args:
        errors: of the terms.
        freedom: their degrees of freedom, of no matter where an error is 0.

    Returns:
        NaN if an error is; freedom is infinite where no error is above 0.
    """
    error = float(np.hypot.reduce(errors))
    shares = sum((one / error) ** 4 / free for one, free in zip(errors, freedom, strict=True) if one > 0)
    return error, float(1 / shares) if shares > 0 else float("inf")


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values adjusted so that, of all true null hypotheses, any falls below a level with at most that probability.

    Holm (1979, "A simple sequentially rejective multiple test procedure"): the k-th smallest of m times m - k + 1, and never
    less than the one before. Valid whatever the dependence between the tests.
    """
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Exact test of two models on the same examples.

    Args:
        first, second: (n,) of 0 and 1.

    Returns:
        How many examples only the first model has right, how many only the second, and the two-sided p-value: that of as
        uneven a split of these examples by a fair coin.
    """
    only_first, only_second = int((first > second).sum()), int((second > first).sum())
    differing = only_first + only_second
    return only_first, only_second, float(stats.binomtest(only_first, differing).pvalue) if differing else 1.0


def covariance(sums: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Covariance of the mean outcomes of K entries, from their test examples.

    Args:
        sums: (n, K) float64, per example how many of an entry's runs have it right.
        runs: (K,) how many runs that are.

    Returns:
        (K, K). Sums of products of integers are exact in whatever order they are added, so that an element depends on its two
        entries alone, to the last bit, and equal entries have equal elements.
    """
    n = len(sums)
    totals = sums.sum(axis=0)
    centred = sums.T @ sums - np.outer(totals, totals) / n
    return centred / np.outer(runs, runs) / (n * max(n - 1, 1))
