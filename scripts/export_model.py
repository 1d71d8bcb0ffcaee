"""Exports a quantized model: a folder that stock transformers loads, with a model card."""

from pmqbench.jobs import run_job
from pmqbench.steps.export_model import main

run_job(main, snakemake)
