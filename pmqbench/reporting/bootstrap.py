"""Random draws of the two-way bootstrap over test examples and calibration seeds.

Every draw has a stream of its own, named by what it is a draw of: a task's examples by suite and task, calibration seeds by
suite and seeds, the normal errors of a model without per-example outcomes by suite, task and model. So no row of a table
depends on which other models are in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

REPLICATES = 10_000
RANDOM_SEED = 20260518
PERCENTILES = (2.5, 97.5)
DRAWS_HELD = 1_000_000  # drawn examples in memory at once: more do not fit a processor's cache, fewer starve the product


def stream(*name: object) -> np.random.Generator:
    """The random stream of that name."""
    digest = hashlib.sha256(json.dumps([RANDOM_SEED, *name]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))


def draw_means(outcomes: np.ndarray, suite: str, task: str) -> np.ndarray:
    """Means over n test examples drawn with replacement, the same ones for all K runs and whatever the runs are.

    Args:
        outcomes: (n, K) of 0 and 1, float32.
        suite, task: name the stream.

    Returns:
        (K, REPLICATES) float64, each value the correctly rounded quotient of two integers.
    """
    n, rng = len(outcomes), stream("examples", suite, task)
    sums = np.empty((outcomes.shape[1], REPLICATES))
    for start in range(0, REPLICATES, step := max(1, DRAWS_HELD // n)):
        replicates = min(step, REPLICATES - start)
        cells = rng.integers(n, size=(replicates, n)) + n * np.arange(replicates)[:, None]
        counts = np.bincount(cells.ravel(), minlength=replicates * n).reshape(replicates, n)
        # Sums below 2^24 are exact in float32, in whatever order a matrix product adds them.
        sums[:, start : start + replicates] = (counts.astype(np.float32) @ outcomes).T
    return sums / n


def draw_errors(suite: str, task: str, models: Sequence[str]) -> np.ndarray:
    """(REPLICATES,) standard normal errors of the model with these ids, one id a seed, on one task."""
    return stream("errors", suite, task, sorted(models)).standard_normal(REPLICATES)


def seed_weights(suite: str, seeds: Sequence[int | None]) -> np.ndarray:
    """(S, REPLICATES) weight of each of S seeds when S - 1 of them are drawn with replacement; 1 for a single one."""
    size = len(seeds)
    if size == 1:
        return np.ones((1, REPLICATES))
    drawn = stream("seeds", suite, sorted(seeds)).integers(size, size=(REPLICATES, size - 1))
    places = np.argsort(np.argsort(seeds))
    return np.stack([(drawn == place).mean(axis=1) for place in places])


def interval(replicates: np.ndarray) -> np.ndarray:
    """(..., R) -> (2, ...): the 2.5 and 97.5 percentile."""
    return np.percentile(replicates, PERCENTILES, axis=-1)
