"""Merges base and experts by one recipe."""

from pmqbench.jobs import run_job
from pmqbench.steps.merge_experts import main

run_job(main, snakemake)
