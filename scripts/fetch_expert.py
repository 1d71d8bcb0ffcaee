"""Brings one task's expert into results/experts/<id>/."""

import time
from pathlib import Path

from pmqbench.config import load_suite
from pmqbench.families.base import FAMILIES
from pmqbench.jobs import finish_model, run_job, start_torch


def main(job):
    started = time.perf_counter()
    start_torch(job.threads)
    suite = load_suite(job.config)
    family = FAMILIES.get(suite.family)()
    folder = Path(job.output[0]).parent
    task = next(task for task in suite.tasks if task.name == job.params.task)
    inputs = {name: Path(job.input[name]) for name in ("data", "head") if job.input.get(name)}
    base = Path(job.input.base[0]).parent if job.input.get("base") else None
    found = suite.experts.fetch_expert(folder, family, task, base, inputs.get("data"), inputs.get("head"), job.threads) or {}
    recipe = {"source": job.params.source, "task": task.name, **found}
    finish_model(job, family, folder, recipe, inputs, started, f"expert {task.name}")


run_job(main, snakemake)
