"""Encodes tasks' prompts with the base's text tower: their zero-shot heads."""

from pathlib import Path

from pmqbench.checkpoints import save_checkpoint
from pmqbench.families.base import FAMILIES
from pmqbench.jobs import run_job, start_torch


def main(job):
    start_torch(job.threads)
    family = FAMILIES.get(job.params.family)()
    base = Path(job.input[0]).parent
    for (classnames, templates), path in zip(job.params.prompts, job.output, strict=True):
        save_checkpoint(path, family.head(base, list(classnames), list(templates)))


run_job(main, snakemake)
