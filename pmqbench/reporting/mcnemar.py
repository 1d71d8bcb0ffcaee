"""Compared models task by task: McNemar's exact test of two models' outcomes on the same test examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from pmqbench.reporting.entries import Runs, TaskOutcomes, task_outcomes
from pmqbench.reporting.inference import holm, mcnemar
from pmqbench.reporting.statistics import Summary

MODEL = ["merge", "quantizer", "bits", "group_size"]
TESTS = ["seed", "task", "n", "only_model", "only_reference", "p", "p_holm"]


def mcnemar_tests(summary: Summary, pairs: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """Tests each pair of entries by seed and task.

    Seeds are not pooled, as an example's outcomes under several seeds are not independent. An entry without seeds meets each of
    the other's. Tasks without per-example outcomes are left out.

    Args:
        summary: of the suite.
        pairs: numbers of entries.

    Returns:
        entry, other (the numbers), seed (None where neither has one), task, n, only_model and only_reference (examples that
        only this one has right), p, and p_holm, corrected over the tasks of one pair and seed.
    """
    tasks = [task_outcomes(summary.runs, column, task) for column, task in enumerate(summary.tasks)]
    rows: list[dict[str, Any]] = []
    for entry, other in pairs:
        for seed, first, second in seed_pairs(summary.runs, entry, other):
            tests = [run_test(outcomes, first, second) for outcomes in tasks if outcomes.known[[first, second]].all()]
            corrected = holm([test["p"] for test in tests])
            names = {"entry": entry, "other": other, "seed": seed}
            rows += [names | test | {"p_holm": p} for test, p in zip(tests, corrected, strict=True)]
    return pd.DataFrame(rows, columns=["entry", "other", *TESTS])


def seed_pairs(runs: Runs, entry: int, other: int) -> Iterator[tuple[int | None, int, int]]:
    """(seed, run of the one, run of the other) for all seeds they share; a run without a seed goes with every one."""
    for first in runs.members[entry]:
        for second in runs.members[other]:
            seeds = {runs.seeds[first], runs.seeds[second]} - {None}
            if len(seeds) < 2:
                yield next(iter(seeds), None), first, second


def run_test(outcomes: TaskOutcomes, first: int, second: int) -> dict[str, Any]:
    """One row of `mcnemar_tests` without its names."""
    model, reference, p = mcnemar(outcomes.of_run(first), outcomes.of_run(second))
    return {"task": outcomes.task, "n": len(outcomes.correct), "only_model": model, "only_reference": reference, "p": p}
