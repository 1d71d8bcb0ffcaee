"""What a run of the workflow says: where its log is, and in the end the leaderboards it made or the jobs that failed."""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pmqbench.workflow.failures import Failure, failure_table, finished

SHOWN = {"shown": True}  # marks what our logger is to show, in line with what Snakemake says of the jobs
RANKING = ("rank_models", "compare_training_seeds")
JOINING = "join_leaderboards"
BEGAN = time.time()
"""When this run did: logs that are older are of other runs."""


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

    Of all suites' leaderboards it names the page. One in a remote storage is named too: Snakemake removes its local copies.

    Args:
        dag: Snakemake's graph of jobs.
    """
    from pmqbench.reporting.terminal import show

    ranked = {job.output.csv for job in dag.finished_jobs if job.rule.name in RANKING}
    for table in sorted(ranked):
        if table.is_storage and not Path(table).is_file():
            print(f"The leaderboard and what belongs to it: {table.storage_object.query}")
        else:
            show(Path(table).parent)
    for page in (job.output.page for job in dag.finished_jobs if job.rule.name == JOINING):
        print(f"Open {page}.")


def list_failures(scheduler: Any) -> None:
    """Says why jobs failed, each cause once, and which jobs were not begun for that; a run may also fail without one.

    A leaderboard is whole if only MLflow failed, so it is shown too.

    Args:
        scheduler: Snakemake's scheduler.
    """
    dag = scheduler.workflow.dag
    failed = [one for job in scheduler.failed for one in _failed_parts(job)]
    if not failed:
        return
    from rich.console import Console
    from snakemake.logging import logger

    from pmqbench.reporting.terminal import show

    untracked = {Path(job.output[0]).parent for job in failed if job.rule.name == "track_runs"}
    for report in sorted(report for report in untracked if (report / "leaderboard.csv").is_file()):  # not in a remote storage
        screen = io.StringIO()
        show(report, console=Console(file=screen))
        logger.info(screen.getvalue().rstrip(), extra=SHOWN)
    parts = {one for job in scheduler.failed for one in _parts(job)}
    left = [job for job in scheduler.remaining_jobs if not job.is_norun and job not in parts]
    left += [job for job in parts if job not in failed and not finished(_failure(job), BEGAN)]
    told = [_failure(job, len(set(dag.bfs(dag.depending, job)).intersection(left))) for job in failed]
    logger.error(failure_table(told, Counter(job.rule.name for job in left), BEGAN))


def _parts(job: Any) -> list[Any]:
    """A job, or the jobs of a group."""
    return list(job) if job.is_group() else [job]


def _failed_parts(job: Any) -> list[Any]:
    """A failed job, or those of a failed group that began and were not done; its first ones if none has begun."""
    if not job.is_group():
        return [job]
    begun = [one for one in job if any(Path(log).is_file() and Path(log).stat().st_mtime >= BEGAN for log in one.log)]
    return [one for one in begun if not finished(_failure(one), BEGAN)] or list(next(iter(job.toposorted)))


def _failure(job: Any, holds_up: int = 0) -> Failure:
    return Failure(
        job.rule.name, tuple(job.wildcards_dict.values()), tuple(map(str, job.log)), holds_up, tuple(map(str, job.input))
    )
