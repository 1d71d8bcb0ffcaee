"""Merges base and experts by a recipe that sees unlabelled samples of every task."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.calibration import draw, expert_of, experts_of, unlabelled, weights_of
from pmqbench.costs import Costs
from pmqbench.distributed import World
from pmqbench.families.base import FAMILIES
from pmqbench.jobs import Made, bring_warnings, finish_model
from pmqbench.merging.base import merger_of
from pmqbench.merging.engine import linear_weights, merge
from pmqbench.processes import run_spread
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.torch_setup import start_torch


def main(job: Any) -> None:
    """Merges base and experts by a recipe that sees unlabelled samples of every task."""
    run_spread(merge_calibrated, job)


def merge_calibrated(job: Any, world: World) -> None:
    """A process's part of it."""
    started, device = time.perf_counter(), start_torch(job.threads, job.resources.get("gpu", 1))
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    method = merger_of(plan["recipe"])
    base, folder = Path(plan["base"]), Path(plan["folder"])
    for task, path in plan["experts"].items():
        family.check_like(Path(path), base, f"expert {task}")
    experts, origin = experts_of(family, plan, device), expert_of(family, base, "base", device)
    calibration, counts = draw(family, plan, method.calibration_samples, method.seed, world)
    weights = [expert.weights for expert in experts.values()]
    model = family.build(base, "base").to(device)
    model.load_state_dict(merge(method.first(), origin.weights, weights, linear_weights(family, base)))
    samples = unlabelled(calibration, experts)
    merged = quantize_model(model, method.solver(), samples, experts, origin, world)
    bring_warnings(world)
    if not world.is_main:
        return
    family.save(folder, merged.tensors, base, {"recipe": plan["recipe"]["method"]})
    inputs = {"base": base / family.weights_file, **weights_of(family, plan)}
    costs = Costs(calibration_samples=max(counts.values()))
    made_of = plan["recipe"] | {"calibration_samples": counts}
    finish_model(job, family, folder, Made(made_of, inputs, started, processes=world.size, costs=costs), "merged model")
