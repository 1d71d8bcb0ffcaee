"""Encodes a task's prompts with the base's text tower: its zero-shot head."""

from pathlib import Path

from pmqbench.checkpoints import save_checkpoint
from pmqbench.families.base import FAMILIES
from pmqbench.jobs import run_job, start_torch


def main(job):
    start_torch(job.threads)
    family = FAMILIES.get(job.params.family)()
    prompts = job.params.prompts
    head = family.head(Path(job.input[0]).parent, list(prompts["classnames"]), list(prompts["templates"]))
    save_checkpoint(job.output[0], head)


run_job(main, snakemake)
