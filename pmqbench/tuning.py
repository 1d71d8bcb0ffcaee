"""Chooses options by the average of the tasks' metrics on validation splits; the test split is never seen here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from pmqbench.heartbeat import each

logger = logging.getLogger(__name__)


def choose(
    candidates: Sequence[Mapping[str, float]], values: Callable[[Mapping[str, float]], Mapping[str, float]]
) -> dict[str, Any]:
    """Evaluates every candidate.

    Args:
        candidates: options to try, each option's value by name.
        values: candidate -> metric on the validation split by task.

    Returns:
        {"chosen": the candidate with the highest unweighted mean (of equals the one with the smaller values), "curve": all of
        them with "average" and "tasks"}.
    """
    curve = []
    for candidate in each(sorted(candidates, key=lambda options: tuple(options.values())), "candidates"):
        by_task = dict(values(candidate))
        average = round(fmean(by_task.values()), 12)  # so that rounding noise decides no tie
        logger.info("%s: validation average %.4f", ", ".join(f"{k} {v:g}" for k, v in candidate.items()), average)
        curve.append({"options": dict(candidate), "average": average, "tasks": by_task})
    return {"chosen": max(curve, key=lambda point: point["average"])["options"], "curve": curve}
