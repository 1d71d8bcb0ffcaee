"""Joins all reports' leaderboards, and the results that others sent in."""

import logging
from pathlib import Path

from pmqbench.jobs import run_job
from pmqbench.reporting.leaderboard import join_suites, write_leaderboards
from pmqbench.reporting.page.contents import joint_contents, read_csv
from pmqbench.reporting.page.render import write_page

log = logging.getLogger("pmqbench.entries")


def main(job):
    reports = {Path(path).parent.name: Path(path).parent for path in job.input.leaderboards}
    joint = join_suites(reports, job.input.entries, Path(job.params.data))
    for warning in joint.warnings:
        log.warning("%s: %s", warning["where"], warning["message"])
    write_leaderboards(joint, job.output.csv, job.output.markdown)
    folder = Path(job.output.page).parent
    pages = {suite: (report / "leaderboard.html").relative_to(folder).as_posix() for suite, report in reports.items()}
    write_page(job.output.page, joint_contents(read_csv(job.output.csv), pages, joint.warnings))


run_job(main, snakemake)
