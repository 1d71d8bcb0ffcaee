"""What a run of the workflow says: where its log is, and in the end the leaderboards it made or the jobs that failed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from pmqbench.workflow.failures import failure_list

SHOWN = {"shown": True}  # marks what our logger is to show, in line with what Snakemake says of the jobs
RANKING = ("rank_models", "compare_training_seeds")
JOINING = "join_leaderboards"


def name_log(log: list[str]) -> None:
    """Says where everything is written that the screen does not show.

    Args:
        log: Snakemake's own log files.
    """
    from snakemake.logging import logger

    paths = [os.path.relpath(path) for path in log]
    logger.info(f"Log: {', '.join(paths)}; of each job: results/logs/", extra=SHOWN)


def show_leaderboards(dag: Any) -> None:
    """Prints the leaderboard of every report that was ranked in this run, and what training seeds say if they were compared.

    Of all suites' leaderboards it names the page.

    Args:
        dag: Snakemake's graph of jobs.
    """
    from pmqbench.reporting.terminal import show

    ranked = {Path(job.output.csv).parent for job in dag.finished_jobs if job.rule.name in RANKING}
    for report in sorted(ranked):
        show(report)
    for page in (job.output.page for job in dag.finished_jobs if job.rule.name == JOINING):
        print(f"Open {page}.")


def list_failures(scheduler: Any) -> None:
    """Says which jobs failed, one line each; a run may also fail without one.

    A leaderboard is whole if only MLflow failed, so it is shown too.

    Args:
        scheduler: Snakemake's scheduler.
    """
    jobs = [one for job in scheduler.failed for one in (job if job.is_group() else [job])]
    if not jobs:
        return
    from rich.console import Console
    from snakemake.logging import logger

    from pmqbench.reporting.terminal import show

    for report in sorted({Path(job.output[0]).parent for job in jobs if job.rule.name == "track_runs"}):
        screen = io.StringIO()
        show(report, console=Console(file=screen))
        logger.info(screen.getvalue().rstrip(), extra=SHOWN)
    told = [(job.rule.name, tuple(job.wildcards_dict.values()), tuple(map(str, job.log))) for job in jobs]
    logger.error(failure_list(told))
