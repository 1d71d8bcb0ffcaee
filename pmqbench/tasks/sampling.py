"""Which examples of a training split a task keeps for training (calibration) and for validation: always the same ones."""

from __future__ import annotations

import numpy as np

VALIDATION_SHARE = 10
"""Of a training split without a validation split, one example in so many becomes validation."""


def keep(count: int, most: int, task: str, skipped: np.ndarray | None = None) -> np.ndarray:
    """At most `most` of `count` rows, none of `skipped`; int64, ascending, the same for the same task."""
    pool = np.setdiff1d(np.arange(count), skipped) if skipped is not None else np.arange(count)
    rng = np.random.default_rng([1, *task.encode()])
    return np.sort(rng.choice(pool, size=min(most, len(pool)), replace=False))


def carve(count: int, most: int, task: str) -> np.ndarray:
    """The rows of a training split of `count` that serve as validation: a tenth, at most `most`; int64, ascending."""
    rng = np.random.default_rng([0, *task.encode()])
    return np.sort(rng.choice(count, size=min(most, count // VALIDATION_SHARE), replace=False))
