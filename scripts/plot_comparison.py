"""Draws a report's plots, each as SVG and PNG."""

from pathlib import Path

from pmqbench.jobs import run_job
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.layer_plot import by_layer
from pmqbench.reporting.plots import by_bits, by_size, by_task
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.style import save


def main(job):
    summary = summarise(read_table(job.input.records), job.params.tasks)
    figures = {
        "tasks_by_method": by_task(summary, job.params.bits),
        "average_by_bits": by_bits(summary),
        "average_by_size": by_size(summary),
        "deviations_by_layer": by_layer(read_table(job.input.layers), job.params.bits),
    }
    for name, figure in figures.items():
        save(figure, *(path for path in job.output if Path(path).stem == name))


run_job(main, snakemake)
