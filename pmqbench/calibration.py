"""What jobs on calibration samples share: the experts as a plan names them, and the samples drawn with a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmqbench.distributed import World
from pmqbench.evaluation.base import PROTOCOLS
from pmqbench.quantization.problem import Expert
from pmqbench.quantization.streams import calibration_counts


def experts_of(family: Any, plan: Mapping[str, Any], device: str) -> dict[str, Expert]:
    """Task -> expert of a plan that has "experts", task -> folder; none of a plan without."""
    return {task: expert_of(family, Path(path), f"expert {task}", device) for task, path in plan.get("experts", {}).items()}


def expert_of(family: Any, folder: Path, label: str, device: str) -> Expert:
    """The model of a folder, read when it is needed."""
    return Expert(label, family.checkpoint(folder, label), lambda: family.build(folder, label).to(device))


def weights_of(family: Any, plan: Mapping[str, Any]) -> dict[str, Path]:
    """Task -> weights file of a plan's experts."""
    return {task: Path(path) / family.weights_file for task, path in plan.get("experts", {}).items()}


def unlabelled(batches: Mapping[str, Sequence[Any]], experts: Mapping[str, Expert]) -> dict[str, list[Any]]:
    """Batches without the training targets that a decoder reads: each task's expert answers its prompts itself."""
    found = {}
    for task, parts in batches.items():
        model = experts[task].build()
        found[task] = [model.with_own_answers(batch, f"{experts[task].label}, task {task}") for batch in parts]
    return found


def draw(
    family: Any, plan: Mapping[str, Any], samples: int, seed: int, world: World
) -> tuple[dict[str, Sequence[Any]], dict[str, int]]:
    """Draws calibration samples from the training splits.

    Args:
        family: whose protocol makes the batches.
        plan: "splits", "tasks", "base", "batch_size", "strict" of `workflow.Stages.calibration`.
        samples: how many a task.
        seed: of the draw.
        world: processes that share the tasks.

    Returns:
        This process's tasks -> batches as the model's `embed` takes them, and every task -> how many samples there were.
    """
    protocol, base = PROTOCOLS.get(family.protocol)(), Path(plan["base"])
    batches = {
        task["name"]: protocol.calibration_batches(Path(split), base, task["name"], samples, seed, plan["batch_size"])
        for task, split in world.own(list(zip(plan["tasks"], plan["splits"], strict=True)))
    }
    return batches, dict(world.all_of(calibration_counts(batches, samples, plan["strict"]).items()))
