"""Gathers what a report's readers have to be warned of."""

from pmqbench.integrity import read_sealed
from pmqbench.jobs import run_job
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.report_warnings import write_warnings


def main(job):
    write_warnings(
        job.output[0],
        suite=job.params.suite,
        stated=job.params.stated,
        strict=job.params.strict,
        manifests=job.input.manifests,
        gates=read_sealed(job.input.gates),
        records=read_table(job.input.records),
    )


run_job(main, snakemake)
