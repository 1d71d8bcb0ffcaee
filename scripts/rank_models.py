"""Ranks the models of a report: leaderboard and paired comparisons."""

from pathlib import Path

from pmqbench.files import read_json
from pmqbench.jobs import run_job
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.comparisons import compare_all
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.tables import write_tables


def main(job):
    summary = summarise(read_table(job.input.records), job.params.tasks)
    pairs = compare_all(summary, job.params.reference)
    write_tables(summary, pairs, read_json(job.input.warnings), **{name: Path(path) for name, path in job.output.items()})


run_job(main, snakemake)
