"""Merges base and experts by one recipe."""

import time
from pathlib import Path

from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json
from pmqbench.jobs import expert_folders, finish_model, run_job, start_torch
from pmqbench.merging.engine import merge
from pmqbench.recipes import merger_of


def main(job):
    started = time.perf_counter()
    start_torch(job.threads)
    family = FAMILIES.get(job.params.family)()
    recipe = dict(job.params.recipe)
    if job.input.get("tuning"):
        recipe["options"] = recipe["options"] | {"scaling": read_json(job.input.tuning[0])["chosen"]}
    base, folder = Path(job.input.base[0]).parent, Path(job.output[0]).parent
    experts = expert_folders(job)
    checkpoints = [family.checkpoint(path, f"expert {task}") for task, path in experts.items()]
    merged = merge(merger_of(recipe), family.checkpoint(base, "base"), checkpoints)
    family.save(folder, merged, base, {"recipe": recipe["method"]})
    inputs = {name: path / family.weights_file for name, path in {"base": base, **experts}.items()}
    finish_model(job, family, folder, recipe, inputs, started, "merged model")


run_job(main, snakemake)
