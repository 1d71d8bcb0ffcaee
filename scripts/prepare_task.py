"""Writes a task's three splits, and where they come from."""

import logging
from pathlib import Path

from pmqbench.config import load_suite
from pmqbench.files import write_json
from pmqbench.jobs import run_job
from pmqbench.tasks.definitions import SPLITS

logger = logging.getLogger("pmqbench.prepare_task")


def main(job):
    task = next(task for task in load_suite(job.config).tasks if task.name == job.params.task)
    source, commit = task.data_source().pinned()
    counts = {}
    for split in SPLITS:
        path = Path(job.output[split])
        counts[split] = task.write_split(path, source.split(task, split), f"task {task.name}, split {split}")
    if task.test_examples not in (None, counts["test"]):
        logger.warning("%d test examples; the published split has %d.", counts["test"], task.test_examples)
    write_json(job.output.manifest, {"source": task.source, "commit": commit, "examples": counts, "code": job.params.code})


run_job(main, snakemake)
