"""Compares a report's records with published numbers."""

from pathlib import Path

from pmqbench.integrity import read_sealed
from pmqbench.jobs import run_job
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.reproduction import compare_published, write_reproduction


def main(job):
    table = compare_published(read_table(job.input.records), job.params.pairs, job.params.tolerances)
    paths = {name: Path(path) for name, path in job.output.items()}
    write_reproduction(job.params.report, table, read_sealed(job.input.gates), **paths)


run_job(main, snakemake)
