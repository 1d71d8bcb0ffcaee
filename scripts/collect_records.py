"""Gathers a report's records, layer records and loss curves into a table each."""

from pmqbench.jobs import run_job
from pmqbench.reporting.collect import collect, collect_curves, collect_layers, write_table


def main(job):
    write_table(job.output.records, collect(job.params.suite, job.params.rows))
    write_table(job.output.layers, collect_layers(job.params.suite, job.params.layer_rows))
    write_table(job.output.curves, collect_curves(job.params.suite, job.params.curve_rows))


run_job(main, snakemake)
