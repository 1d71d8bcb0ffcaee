"""Encodes tasks' prompts with the base: their zero-shot heads."""

from pathlib import Path

from pmqbench.checkpoints import save_checkpoint
from pmqbench.families.base import FAMILIES
from pmqbench.jobs import run_job
from pmqbench.torch_setup import start_torch


def main(job):
    start_torch(job.threads)
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    for (classnames, templates), path in zip(plan["prompts"], job.output, strict=True):
        save_checkpoint(path, family.head(Path(plan["base"]), list(classnames), list(templates)))


run_job(main, snakemake)
