"""Writes a task's three splits, and where they come from."""

from pathlib import Path

from pmqbench.config import load_suite
from pmqbench.files import write_json
from pmqbench.jobs import run_job
from pmqbench.tasks.definitions import SPLITS
from pmqbench.tasks.prepare import prepare


def main(job):
    task = next(task for task in load_suite(job.config).tasks if task.name == job.params.task)
    made = prepare(task, {split: Path(job.output[split]) for split in SPLITS})
    write_json(job.output.manifest, made | {"code": job.params.code})


run_job(main, snakemake)
