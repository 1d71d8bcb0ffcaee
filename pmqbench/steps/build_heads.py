"""Encodes tasks' prompts with the base: their zero-shot heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pmqbench.families.base import FAMILIES
from pmqbench.integrity import save_sealed_tensors
from pmqbench.torch_setup import start_torch


def main(job: Any) -> None:
    """Encodes tasks' prompts with the base: their zero-shot heads."""
    start_torch(job.threads, gpus=0)
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    for (classnames, templates), path in zip(plan["prompts"], job.output, strict=True):
        save_sealed_tensors(path, family.head(Path(plan["base"]), list(classnames), list(templates)))
