"""Brings the base model into results/experts/<id>/."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.families.base import FAMILIES
from pmqbench.jobs import Made, finish_model
from pmqbench.sources.base import source_of
from pmqbench.tasks.definitions import task_of
from pmqbench.torch_setup import start_torch


def main(job: Any) -> None:
    """Brings the base model into results/experts/<id>/."""
    started = time.perf_counter()
    start_torch(job.threads, gpus=0)
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    folder = Path(plan["folder"])
    tasks = [task_of(description) for description in plan["tasks"]]
    data = {task.name: Path(path) for task, path in zip(tasks, job.input.data, strict=True)}
    found = source_of(plan["source"], "base").fetch_base(folder, family, data, tasks) or {}
    finish_model(job, family, folder, Made({"source": plan["source"], **found}, data, started), "base")
