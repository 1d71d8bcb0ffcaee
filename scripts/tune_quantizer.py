"""Chooses options of a quantizer on the validation splits of all tasks, with one draw of calibration samples."""

from pmqbench.jobs import run_job
from pmqbench.steps.tune_quantizer import main

run_job(main, snakemake)
