"""Compares models over training seeds: averages and differences with the components of their variance."""

from pathlib import Path

import pandas as pd

from pmqbench.jobs import run_job
from pmqbench.reporting.collect import collect, write_table
from pmqbench.reporting.style import save
from pmqbench.reporting.training_figure import draw_training
from pmqbench.reporting.training_seeds import arrange_training, averages, differences
from pmqbench.reporting.training_tables import write_training


def main(job):
    rows = pd.DataFrame({"training_seed": [row["training_seed"] for row in job.params.rows]})
    records = pd.concat([rows, collect(job.params.suite, job.params.rows)], axis=1)
    write_table(job.output.records, records)
    trained = arrange_training(records, job.params.tasks)
    own, compared = averages(trained), differences(trained, job.params.reference)
    save(draw_training(job.params.suite, own, compared, trained.seeds), job.output.svg, job.output.png)
    write_training(
        job.params.suite,
        own,
        compared,
        trained.seeds,
        csv=Path(job.output.csv),
        csv_of_differences=Path(job.output.differences),
        markdown=Path(job.output.markdown),
    )


run_job(main, snakemake)
