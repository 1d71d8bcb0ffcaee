"""Chooses a merge's scaling by the average of the tasks' metrics on validation splits; the test split is never seen here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)


def choose_scaling(candidates: Sequence[float], values: Callable[[float], Mapping[str, float]]) -> dict[str, Any]:
    """Evaluates every candidate.

    Args:
        candidates: scalings to try.
        values: scaling -> metric on the validation split by task.

    Returns:
        {"chosen": the candidate with the highest unweighted mean (the smaller one of equals), "curve": all of them}.
    """
    curve = []
    for scaling in sorted(candidates):
        by_task = dict(values(scaling))
        average = sum(by_task.values()) / len(by_task)
        logger.info("scaling %.3g: validation average %.4f", scaling, average)
        curve.append({"scaling": scaling, "average": average, "tasks": by_task})
    return {"chosen": max(curve, key=lambda point: point["average"])["scaling"], "curve": curve}
