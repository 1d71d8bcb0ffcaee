"""Refines a quantized model with its experts as teachers. A job that was stopped goes on where it was."""

from pmqbench.jobs import run_job
from pmqbench.steps.refine_model import main

run_job(main, snakemake)
