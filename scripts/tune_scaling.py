"""Chooses a merge's scaling on the validation splits of all tasks."""

import dataclasses
from pathlib import Path

from safetensors.torch import load_file

from pmqbench.evaluation.zero_shot import classify
from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.jobs import expert_folders, run_job, start_torch
from pmqbench.merging.engine import merge
from pmqbench.merging.tuning import choose_scaling
from pmqbench.recipes import merger_of
from pmqbench.tasks.splits import load_split


def main(job):
    device = start_torch(job.threads)
    family = FAMILIES.get(job.params.family)()
    base = Path(job.input.base[0]).parent
    towers = [family.tower(path, f"expert {task}") for task, path in expert_folders(job).items()]
    recipe = dict(job.params.recipe)
    candidates = recipe["options"]["scaling"]["validation"]
    method = merger_of(recipe | {"options": recipe["options"] | {"scaling": candidates[0]}})
    model = family.build(base, "base").to(device)
    splits = {
        task: (load_file(head), *load_split(data))
        for task, head, data in zip(job.params.tasks, job.input.heads, job.input.data, strict=True)
    }

    def accuracies(scaling):
        model.load_state_dict(merge(dataclasses.replace(method, scaling=scaling), family.tower(base, "base"), towers))
        return {
            task: classify(
                model, head, images, labels, job.params.batch_size, device, f"scaling {scaling}, task {task}"
            ).accuracy
            for task, (head, images, labels) in splits.items()
        }

    write_json(job.output[0], choose_scaling(candidates, accuracies))


run_job(main, snakemake)
