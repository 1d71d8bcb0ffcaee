"""Chooses a merge's scaling on the validation splits of all tasks."""

from pathlib import Path

from pmqbench.evaluation.base import PROTOCOLS, Assets
from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.jobs import run_job
from pmqbench.merging.base import merger_of
from pmqbench.merging.engine import linear_weights
from pmqbench.merging.tuning import choose_scaling, scaled_merges
from pmqbench.torch_setup import start_torch


def main(job):
    device = start_torch(job.threads)
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    protocol = PROTOCOLS.get(family.protocol)()
    base = Path(plan["base"])
    checkpoints = [family.checkpoint(Path(path), f"expert {task}") for task, path in plan["experts"].items()]
    recipe = dict(plan["recipe"])
    candidates = recipe["options"]["scaling"]["candidates"]
    model, linear = family.build(base, "base").to(device), linear_weights(family, base)
    splits = {task["name"]: (protocol.examples(Path(task["split"]), Assets.of(task)), task) for task in plan["tasks"]}

    def method(scaling):
        return merger_of(recipe | {"options": recipe["options"] | {"scaling": scaling}})

    merged = scaled_merges(method, family.checkpoint(base, "base"), checkpoints, linear)

    def values(scaling):
        model.load_state_dict(merged(scaling))
        return {
            name: protocol.evaluate(
                model, examples, task["metric"], plan["batch_size"], device, f"scaling {scaling}, task {name}"
            ).value
            for name, (examples, task) in splits.items()
        }

    write_json(job.output[0], choose_scaling(candidates, values))


run_job(main, snakemake)
