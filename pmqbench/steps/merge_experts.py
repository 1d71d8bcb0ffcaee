"""Merges base and experts by one recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.costs import Costs
from pmqbench.families.base import FAMILIES
from pmqbench.integrity import read_sealed
from pmqbench.jobs import Made, finish_model
from pmqbench.merging.base import merger_of
from pmqbench.merging.engine import linear_weights, merge
from pmqbench.torch_setup import start_torch


def main(job: Any) -> None:
    """Merges base and experts by one recipe."""
    started = time.perf_counter()
    start_torch(job.threads, gpus=0)
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    recipe, costs = dict(plan["recipe"]), Costs()
    if job.input.tuning:
        choice = read_sealed(job.input.tuning[0])
        recipe["options"], costs = recipe["options"] | choice["chosen"], Costs.from_manifest(choice)
    base, folder = Path(plan["base"]), Path(plan["folder"])
    experts = {task: Path(path) for task, path in plan["experts"].items()}
    for task, path in experts.items():
        family.check_like(path, base, f"expert {task}")
    checkpoints = [family.checkpoint(path, f"expert {task}") for task, path in experts.items()]
    merged = merge(merger_of(recipe), family.checkpoint(base, "base"), checkpoints, linear_weights(family, base))
    family.save(folder, merged, base, {"recipe": recipe["method"]})
    inputs = {name: path / family.weights_file for name, path in {"base": base, **experts}.items()}
    finish_model(job, family, folder, Made(recipe, inputs, started, costs=costs), "merged model")
