"""Evaluates models on tasks: one record per model and task."""

from pmqbench.jobs import run_job
from pmqbench.steps.evaluate_model import main

run_job(main, snakemake)
