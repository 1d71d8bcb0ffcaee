"""Scores on validation splits, by which options are chosen; the test splits are never read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pmqbench.distributed import ALONE, World
from pmqbench.evaluation.base import PROTOCOLS, Assets
from pmqbench.heartbeat import each


@dataclass(frozen=True)
class Validation:
    """The validation splits of a plan.

    Attributes:
        family: whose protocol scores.
        plan: "validation" and "evaluation_batch" of `workflow.Stages.validation`.
        device: "cpu" or "cuda".
        world: processes that share the tasks.
    """

    family: Any
    plan: Mapping[str, Any]
    device: str
    world: World = ALONE

    @cached_property
    def _protocol(self) -> Any:
        return PROTOCOLS.get(self.family.protocol)()

    @cached_property
    def _splits(self) -> list[tuple[Any, Mapping[str, Any]]]:
        own = self.world.own(self.plan["validation"])
        return [(self._protocol.examples(Path(task["split"]), Assets.of(task)), task) for task in own]

    def values(self, model: Any, label: str) -> dict[str, float]:
        """Task -> the model's metric; `label` is what errors call the candidate."""
        size = self.plan["evaluation_batch"]
        own = {
            task["name"]: self._protocol.evaluate(
                model, examples, task["metric"], size, self.device, f"{label}, task {task['name']}"
            ).value
            for examples, task in each(self._splits, "tasks")
        }
        return dict(self.world.all_of(own.items()))
