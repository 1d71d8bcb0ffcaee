"""Chooses a merge's scaling on the validation splits of all tasks."""

import dataclasses
from pathlib import Path

from pmqbench.evaluation.base import PROTOCOLS
from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.jobs import expert_folders, run_job, start_torch
from pmqbench.merging.engine import merge
from pmqbench.merging.tuning import choose_scaling
from pmqbench.recipes import merger_of


def main(job):
    device = start_torch(job.threads)
    family = FAMILIES.get(job.params.family)()
    protocol = PROTOCOLS.get(family.protocol)()
    base = Path(job.input.base[0]).parent
    checkpoints = [family.checkpoint(path, f"expert {task}") for task, path in expert_folders(job).items()]
    recipe = dict(job.params.recipe)
    candidates = recipe["options"]["scaling"]["validation"]
    method = merger_of(recipe | {"options": recipe["options"] | {"scaling": candidates[0]}})
    model = family.build(base, "base").to(device)
    splits = {
        task: (protocol.examples(Path(data), Path(reader)), metric)
        for task, data, reader, metric in zip(
            job.params.tasks, job.input.data, job.input.readers, job.params.metrics, strict=True
        )
    }

    def values(scaling):
        model.load_state_dict(merge(dataclasses.replace(method, scaling=scaling), family.checkpoint(base, "base"), checkpoints))
        return {
            task: protocol.evaluate(
                model, examples, metric, job.params.batch_size, device, f"scaling {scaling}, task {task}"
            ).value
            for task, (examples, metric) in splits.items()
        }

    write_json(job.output[0], choose_scaling(candidates, values))


run_job(main, snakemake)
