"""What a run of the workflow says: where its log is, and in the end the leaderboards it made or the jobs that failed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pmqbench.workflow.failures import failure_list

RANKING = ("rank_models", "compare_training_seeds")


def name_log(log: list[str]) -> None:
    """Says where everything is written that the screen does not show.

    Args:
        log: Snakemake's own log files.
    """
    from snakemake.logging import logger  # in line with what it says of the jobs

    paths = [os.path.relpath(path) for path in log]
    logger.info(f"Log: {', '.join(paths)}; of each job: results/logs/")


def show_leaderboards(dag: Any) -> None:
    """Prints the leaderboard of every report that was ranked in this run, and what training seeds say if they were compared.

    Args:
        dag: Snakemake's graph of jobs.
    """
    from pmqbench.reporting.terminal import show

    ranked = {Path(job.output.csv).parent for job in dag.finished_jobs if job.rule.name in RANKING}
    for report in sorted(ranked):
        show(report)


def list_failures(scheduler: Any) -> None:
    """Prints the failed jobs, one line each; a run may also fail without one.

    A leaderboard is whole if only MLflow failed, so it is shown too. All goes to stderr: there may still be bars in a terminal,
    above which the logger writes what comes that way.

    Args:
        scheduler: Snakemake's scheduler.
    """
    jobs = [one for job in scheduler.failed for one in (job if job.is_group() else [job])]
    if jobs:
        from rich.console import Console

        from pmqbench.reporting.terminal import show

        for report in sorted({Path(job.output[0]).parent for job in jobs if job.rule.name == "track_runs"}):
            show(report, console=Console(stderr=True))
        told = [(job.rule.name, tuple(job.wildcards_dict.values()), tuple(map(str, job.log))) for job in jobs]
        sys.stderr.write(failure_list(told) + "\n")
