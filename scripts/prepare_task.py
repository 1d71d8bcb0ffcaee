"""Writes a task's three splits, and where they come from."""

import logging
from pathlib import Path

from pmqbench.files import write_json
from pmqbench.jobs import run_job, taken_warnings
from pmqbench.tasks.definitions import SPLITS, task_of

logger = logging.getLogger("pmqbench.prepare_task")


def main(job):
    task = task_of(job.params.plan["task"])
    source, commit = task.data_source().pinned()
    counts = {}
    for split in SPLITS:
        path = Path(job.output[split])
        counts[split] = task.write_split(path, source.split(task, split), f"task {task.name}, split {split}")
    if task.test_examples not in (None, counts["test"]):
        logger.warning("task %s: %d test examples; the published split has %d.", task.name, counts["test"], task.test_examples)
    made = {"source": task.source, "commit": commit, "examples": counts, "code": job.params.code}
    write_json(job.output.manifest, made | {"warnings": taken_warnings()})


run_job(main, snakemake)
