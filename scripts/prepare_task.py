"""Writes a task's three splits."""

import logging
from pathlib import Path

from pmqbench.config import load_suite
from pmqbench.jobs import run_job

logger = logging.getLogger("pmqbench.prepare_task")


def main(job):
    task = next(task for task in load_suite(job.config).tasks if task.name == job.params.task)
    source = task.data_source()
    for split, path in job.output.items():
        count = task.write_split(Path(path), source.split(task, split), f"task {task.name}, split {split}")
        if split == "test" and task.test_examples not in (None, count):
            logger.warning("%d test examples; the published split has %d.", count, task.test_examples)


run_job(main, snakemake)
