"""Chooses a merge's scaling on the validation splits of all tasks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.costs import Costs
from pmqbench.evaluation.validation import Validation
from pmqbench.families.base import FAMILIES
from pmqbench.integrity import write_sealed
from pmqbench.merging.base import merger_of
from pmqbench.merging.engine import linear_weights
from pmqbench.merging.tuning import scaled_merges
from pmqbench.torch_setup import start_torch
from pmqbench.tuning import choose


def main(job: Any) -> None:
    """Chooses a merge's scaling on the validation splits of all tasks."""
    started, device = time.perf_counter(), start_torch(job.threads, job.resources.get("gpu", 1))
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    base = Path(plan["base"])
    checkpoints = [family.checkpoint(Path(path), f"expert {task}") for task, path in plan["experts"].items()]
    recipe = dict(plan["recipe"])
    candidates = [{"scaling": scaling} for scaling in recipe["options"]["scaling"]["candidates"]]
    model, validation = family.build(base, "base").to(device), Validation(family, plan, device)

    def method(scaling):
        return merger_of(recipe | {"options": recipe["options"] | {"scaling": scaling}})

    merged = scaled_merges(method, family.checkpoint(base, "base"), checkpoints, linear_weights(family, base))

    def values(candidate):
        model.load_state_dict(merged(candidate["scaling"]))
        return validation.values(model, str(candidate))

    choice = choose(candidates, values)
    costs = Costs(time.perf_counter() - started, validation_labels=True)
    write_sealed(job.output[0], choice | costs.stated())
