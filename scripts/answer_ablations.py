"""Answers a report's ablations: a figure each, and the sentences and numbers of all of them."""

from pathlib import Path

from pmqbench.jobs import run_job
from pmqbench.reporting.ablation_figure import draw_ablation
from pmqbench.reporting.ablations import judge, write_ablations
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.style import save


def main(job):
    summary = summarise(read_table(job.input.records), job.params.tasks)
    answers = [(ablation, judge(summary, ablation)) for ablation in job.params.ablations]
    for ablation, rows in answers:
        figure = draw_ablation(summary.suite, ablation, rows)
        save(figure, *(path for path in (*job.output.svg, *job.output.png) if Path(path).stem == ablation["name"]))
    write_ablations(summary.suite, answers, csv=Path(job.output.csv), markdown=Path(job.output.markdown))


run_job(main, snakemake)
