"""Joins all reports' leaderboards and refreshes the README's block."""

from pathlib import Path

from pmqbench.jobs import run_job
from pmqbench.reporting.leaderboard import excerpt, join_suites, refresh_block, write_leaderboards


def main(job):
    joint = join_suites({Path(path).parent.name: path for path in job.input})
    write_leaderboards(joint, job.output.csv, job.output.markdown)
    refresh_block(job.params.readme, excerpt(joint))


run_job(main, snakemake)
