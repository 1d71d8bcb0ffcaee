"""Chooses a merge's scaling on the validation splits of all tasks."""

import time
from pathlib import Path

from pmqbench.evaluation.validation import Validation
from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.jobs import run_job
from pmqbench.merging.base import merger_of
from pmqbench.merging.engine import linear_weights, merge
from pmqbench.torch_setup import start_torch
from pmqbench.tuning import choose


def main(job):
    started, device = time.perf_counter(), start_torch(job.threads)
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    base = Path(plan["base"])
    checkpoints = [family.checkpoint(Path(path), f"expert {task}") for task, path in plan["experts"].items()]
    recipe = dict(plan["recipe"])
    candidates = [{"scaling": scaling} for scaling in recipe["options"]["scaling"]["candidates"]]
    model, linear = family.build(base, "base").to(device), linear_weights(family, base)
    validation = Validation(family, plan, device)

    def values(candidate):
        method = merger_of(recipe | {"options": recipe["options"] | candidate})
        model.load_state_dict(merge(method, family.checkpoint(base, "base"), checkpoints, linear))
        return validation.values(model, str(candidate))

    choice = choose(candidates, values)
    write_json(job.output[0], choice | {"seconds": round(time.perf_counter() - started, 3)})


run_job(main, snakemake)
