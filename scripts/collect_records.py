"""Gathers a report's records and layer records into two tables."""

from pmqbench.jobs import run_job
from pmqbench.reporting.collect import collect, collect_layers, write_table


def main(job):
    write_table(job.output.records, collect(job.params.suite, job.params.rows))
    write_table(job.output.layers, collect_layers(job.params.suite, job.params.layer_rows))


run_job(main, snakemake)
