"""Brings one task's expert into results/experts/<id>/."""

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
    """Brings one task's expert into results/experts/<id>/."""
    started = time.perf_counter()
    start_torch(job.threads, gpus=0)
    plan = job.params.plan
    family, task = FAMILIES.get(plan["family"])(), task_of(plan["task"])
    folder, base = Path(plan["folder"]), Path(plan["base"])
    inputs = {name: Path(job.input[name]) for name in ("data", "head") if job.input.get(name)}
    source = source_of(plan["source"], "experts")
    found = source.fetch_expert(folder, family, task, base, inputs.get("data"), inputs.get("head")) or {}
    family.admit(folder, base, f"expert {task.name}")
    recipe = {"source": plan["source"], "task": task.name, **found}
    finish_model(job, family, folder, Made(recipe, inputs, started), f"expert {task.name}")
