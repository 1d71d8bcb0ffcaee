"""Quantizes a merged model: one folder per calibration seed, or one if the method needs no data."""

from pmqbench.jobs import run_job
from pmqbench.steps.quantize_model import main

run_job(main, snakemake)
