"""Brings one task's expert into results/experts/<id>/."""

from pmqbench.jobs import run_job
from pmqbench.steps.fetch_expert import main

run_job(main, snakemake)
