"""Joins all reports' leaderboards."""

from pathlib import Path

from pmqbench.jobs import run_job
from pmqbench.reporting.leaderboard import join_suites, write_leaderboards


def main(job):
    joint = join_suites({Path(path).parent.name: path for path in job.input})
    write_leaderboards(joint, job.output.csv, job.output.markdown)


run_job(main, snakemake)
