"""The suite of one recipe that a command's arguments stand for: it is checked as any other, before work starts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from pmqbench.cli.models import family, named, paired, source, tasks
from pmqbench.config import load_suite
from pmqbench.errors import ConfigError
from pmqbench.recipes import Suite
from pmqbench.tasks.definitions import Task

UNASKED = {"merge": {"method": "simple_average"}, "quantizer": {"method": "rtn"}}
"""Recipes of commands that have none: a suite has one of each, and nothing is made of them."""


def recipe_suite(given: argparse.Namespace, **recipes: Mapping[str, Any]) -> Suite:
    """The suite of a base, its experts, and the recipes of a merge and a quantizer.

    Args:
        given: with base, experts and what `_suite` reads.
        recipes: `merge` and, unless it is no matter, `quantizer`, in the form of a suite's config.

    Raises:
        PMQError: an argument is wrong; `where` names it, or the key of the config that it became.
    """
    pairs = paired([named(expert, "--experts") for expert in given.experts], tasks(given.data, given.tasks))
    experts = {task.name: expert.source for task, expert in pairs}
    return _suite(given, source(given.base, "BASE"), experts, [task for task, _ in pairs], UNASKED | recipes)


def model_suite(given: argparse.Namespace) -> Suite:
    """The suite in which a model is evaluated: it stands where a suite has the experts, its base, or itself, as the base.

    Args:
        given: with model, base and what `_suite` reads.

    Raises:
        PMQError: as `recipe_suite`, or there are no tasks.
    """
    known = tasks(given.data, given.tasks)
    if not known:
        raise ConfigError("there is nothing to evaluate on.", where="--data, --tasks", remedy="Give one of the two.")
    model = source(given.model, "MODEL")
    base = source(given.base, "--base") if given.base else model
    return _suite(given, base, {task.name: model for task in known}, known, UNASKED)


def _suite(
    given: argparse.Namespace,
    base: Mapping[str, Any],
    experts: Mapping[str, Mapping[str, Any]],
    known: Sequence[Task],
    recipes: Mapping[str, Mapping[str, Any]],
) -> Suite:
    """The checked suite; `given` has family and batch_size and, where samples are drawn, samples and seed."""
    calibration = {"samples": given.samples} if "samples" in given else {}
    return load_suite(
        {
            "suite": "command-line",
            "family": given.family or family(base, "BASE"),
            "base": dict(base),
            "experts": {"source": "each", "of": dict(experts)},
            "tasks": [task.describe() for task in known],
            "merges": {recipes["merge"]["method"]: dict(recipes["merge"])},
            "quantizers": {recipes["quantizer"]["method"]: dict(recipes["quantizer"])},
            "seeds": [given.seed] if "seed" in given else [0],
            "calibration": calibration | {"batch_size": given.batch_size},
            "evaluation": {"batch_size": given.batch_size},
            "batch_jobs": True,
        }
    )
