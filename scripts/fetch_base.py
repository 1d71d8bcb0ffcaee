"""Brings the base model into results/experts/<id>/."""

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
    data = {task.name: Path(path) for task, path in zip(suite.tasks, job.input.data, strict=True)} if suite.base.trains else {}
    found = suite.base.fetch_base(folder, family, data, suite.tasks, job.threads) or {}
    finish_model(job, family, folder, {"source": job.params.source, **found}, data, started, "base")


run_job(main, snakemake)
