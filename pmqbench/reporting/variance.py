"""What of an average's variance comes from training seeds, from calibration seeds and from test examples, apart.

Every training seed meets every calibration seed and all of them the same test examples: a balanced crossed design with one
outcome a cell. Its components are those of the random-effects analysis of variance, estimated by equating mean squares to their
expectations (Searle, Casella and McCulloch, 1992, "Variance Components", chapter 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmqbench.reporting.inference import combined_error

TRAINING, CALIBRATION, EXAMPLES = range(3)
"""Axes of a task's outcomes: (A training seeds, S calibration seeds, n examples); S is 1 where no calibration seed enters."""


@dataclass(frozen=True)
class Components:
    """Variances of the average of one run: one training seed, one calibration seed, these test examples.

    Estimates without bias, so that those of training and calibration may come out below zero.

    Attributes:
        training: of the mean over calibration seeds, from one training seed to another.
        calibration: from one calibration seed to another, the models being the same; NaN where only one was run.
        examples: from one set of test examples to another of the same size.
    """

    training: float
    calibration: float
    examples: float


def mean_square(values: np.ndarray, factors: Sequence[int]) -> float:
    """Mean square of the interaction of `factors` (of a main effect, if it is one); 0 if one of them has a single level.

    Args:
        values: one value a cell.
        factors: axes.
    """
    freedom = np.prod([values.shape[axis] - 1 for axis in factors])
    if not freedom:
        return 0.0
    effect = values
    for axis in range(values.ndim):
        mean = effect.mean(axis=axis, keepdims=True)
        effect = effect - mean if axis in factors else mean
    return float((effect**2).sum() * (values.size / effect.size) / freedom)


def components(outcomes: Sequence[np.ndarray], calibrated: bool) -> Components:
    """Components of the variance of the unweighted mean over tasks.

    What varies between seeds is the true average and, as there are so many examples only, what single examples make of it. The
    latter is known from how examples differ in what they do from seed to seed, and is taken off.

    Args:
        outcomes: per task (A, S, n), or differences of two models' outcomes; A of 2 or more.
        calibrated: whether calibration seeds enter.
    """
    averages = average_of(outcomes)
    seeds, calibration_seeds = averages.shape
    both = _of_examples(outcomes, (TRAINING, CALIBRATION, EXAMPLES))
    by_both = mean_square(averages, (TRAINING, CALIBRATION)) - both
    by_training = mean_square(averages, (TRAINING,)) - _of_examples(outcomes, (TRAINING, EXAMPLES))
    by_calibration = mean_square(averages, (CALIBRATION,)) - _of_examples(outcomes, (CALIBRATION, EXAMPLES))
    # Of a calibration seed: what it does to every model alike, and what it does to the models of one training seed.
    of_calibration = (by_calibration - by_both) / seeds + by_both
    return Components(
        training=(by_training - by_both) / calibration_seeds,
        calibration=0.0 if not calibrated else of_calibration if calibration_seeds > 1 else float("nan"),
        examples=sum(float(task.var(axis=EXAMPLES, ddof=1).mean()) / task.shape[EXAMPLES] for task in outcomes)
        / len(outcomes) ** 2,
    )


def errors_of_mean(outcomes: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """How far the mean over all runs may be off.

    Args:
        outcomes: as for `components`.

    Returns:
        Its standard error from test examples with all seeds held fixed, that from training and calibration seeds together, and
        the latter's degrees of freedom. What a seed does to single examples is in both, so they are rather too large.
    """
    averages = average_of(outcomes)
    of_examples = np.sqrt(_of_examples(outcomes, (EXAMPLES,)) / averages.size)
    of_seeds = [np.sqrt(mean_square(averages, (axis,)) / averages.size) for axis in (TRAINING, CALIBRATION)]
    return float(of_examples), *combined_error(of_seeds, [size - 1 for size in averages.shape])


def average_of(outcomes: Sequence[np.ndarray]) -> np.ndarray:
    """(A, S) unweighted means over tasks."""
    return np.mean([task.mean(axis=EXAMPLES) for task in outcomes], axis=0)


def _of_examples(outcomes: Sequence[np.ndarray], factors: Sequence[int]) -> float:
    """What `mean_square` of the averages over tasks would be if examples alone made it: `factors` are examples and others."""
    return sum(mean_square(task, factors) / task.shape[EXAMPLES] for task in outcomes) / len(outcomes) ** 2
