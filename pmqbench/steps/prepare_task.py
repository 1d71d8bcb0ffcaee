"""Writes a task's three splits, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pmqbench.integrity import write_manifest
from pmqbench.jobs import taken_warnings
from pmqbench.tasks.definitions import SPLITS, task_of
from pmqbench.tasks.prepare import prepare


def main(job: Any) -> None:
    """Writes a task's three splits, and where they come from."""
    made = prepare(task_of(job.params.plan["task"]), {split: Path(job.output[split]) for split in SPLITS})
    write_manifest(Path(job.output.manifest).parent, made | {"code": job.params.code, "warnings": taken_warnings()})
