"""Joins all reports' leaderboards."""

from pathlib import Path

from pmqbench.jobs import run_job
from pmqbench.reporting.leaderboard import join_suites, write_leaderboards
from pmqbench.reporting.page.contents import joint_contents, read_csv
from pmqbench.reporting.page.render import write_page


def main(job):
    csvs = {Path(path).parent.name: Path(path) for path in job.input}
    write_leaderboards(join_suites(csvs), job.output.csv, job.output.markdown)
    folder = Path(job.output.page).parent
    pages = {suite: path.with_suffix(".html").relative_to(folder).as_posix() for suite, path in csvs.items()}
    write_page(job.output.page, joint_contents(read_csv(job.output.csv), pages))


run_job(main, snakemake)
