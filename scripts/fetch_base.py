"""Brings the base model into results/experts/<id>/."""

from pmqbench.jobs import run_job
from pmqbench.steps.fetch_base import main

run_job(main, snakemake)
