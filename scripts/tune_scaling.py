"""Chooses a merge's scaling on the validation splits of all tasks."""

from pmqbench.jobs import run_job
from pmqbench.steps.tune_scaling import main

run_job(main, snakemake)
