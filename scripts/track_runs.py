"""Logs a report's records to MLflow; records that are logged already are left alone."""

from dataclasses import asdict
from pathlib import Path

from pmqbench.files import write_json
from pmqbench.jobs import run_job
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.tracking import track, tracking_store


def main(job):
    counts = track(
        read_table(job.input.records),
        read_table(job.input.curves),
        job.params.suite,
        [Path(path) for path in job.input.artefacts],
        tracking_store(job.params.results),
    )
    write_json(job.output[0], asdict(counts))


run_job(main, snakemake)
