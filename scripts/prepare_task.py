"""Writes a task's three splits, and where they come from."""

from pmqbench.jobs import run_job
from pmqbench.steps.prepare_task import main

run_job(main, snakemake)
