"""Draws a report's plots, each as SVG and PNG."""

from pathlib import Path

from pmqbench.jobs import run_job
from pmqbench.reporting import PLOTS
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.plot_data import PlotData, draw
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.style import save


def main(job):
    summary = summarise(read_table(job.input.records), job.params.tasks)
    data = PlotData(summary, read_table(job.input.layers), read_table(job.input.curves))
    for name in PLOTS:
        save(draw(name, data), *(path for path in job.output if Path(path).stem == name))


run_job(main, snakemake)
