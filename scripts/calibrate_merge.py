"""Merges base and experts by a recipe that sees unlabelled samples of every task."""

from pmqbench.jobs import run_job
from pmqbench.steps.calibrate_merge import main

run_job(main, snakemake)
