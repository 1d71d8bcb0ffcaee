"""Writes a task's three splits."""

import logging

from pmqbench.config import load_suite
from pmqbench.jobs import run_job
from pmqbench.tasks.splits import save_split

logger = logging.getLogger("pmqbench.prepare_task")


def main(job):
    task = next(task for task in load_suite(job.config).tasks if task.name == job.params.task)
    source = task.data_source()
    for split, path in job.output.items():
        images, labels = source.split(task, split)
        save_split(path, images, labels, len(task.classnames), f"task {task.name}, split {split}")
        if split == "test" and task.test_examples not in (None, len(labels)):
            logger.warning("%d test examples; the published split has %d.", len(labels), task.test_examples)


run_job(main, snakemake)
