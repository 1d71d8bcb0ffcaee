"""Encodes tasks' prompts with the base: their zero-shot heads."""

from pmqbench.jobs import run_job
from pmqbench.steps.build_heads import main

run_job(main, snakemake)
