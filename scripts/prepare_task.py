"""Writes a task's three splits."""

from pathlib import Path

from pmqbench.jobs import run_job
from pmqbench.tasks.definitions import load_task


def main(job):
    task = load_task(job.params.task)
    source = task.data_source()
    for split, path in job.output.items():
        task.write_split(Path(path), source.split(task, split), f"task {task.name}, split {split}")


run_job(main, snakemake)
