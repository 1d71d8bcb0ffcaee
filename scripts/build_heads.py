"""Encodes tasks' prompts with the base's text tower: their zero-shot heads."""

from pathlib import Path

from pmqbench.checkpoints import save_checkpoint
from pmqbench.families.base import FAMILIES
from pmqbench.jobs import run_job, start_torch


def main(job):
    start_torch(job.threads)
    family = FAMILIES.get(job.params.family)()
    for prompts, path in zip(job.params.prompts, job.output, strict=True):
        head = family.head(Path(job.input[0]).parent, list(prompts["classnames"]), list(prompts["templates"]))
        save_checkpoint(path, head)


run_job(main, snakemake)
