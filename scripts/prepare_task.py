"""Writes a task's three splits."""

from pmqbench.jobs import run_job
from pmqbench.tasks.definitions import load_task
from pmqbench.tasks.splits import save_split


def main(job):
    task = load_task(job.params.task)
    source = task.data_source()
    for split, path in job.output.items():
        save_split(path, *source.split(task.name, split), len(task.classnames), f"task {task.name}, split {split}")


run_job(main, snakemake)
