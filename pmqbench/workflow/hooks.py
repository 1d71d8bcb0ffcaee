"""What a run of the workflow says at its end: the leaderboards it made, or the jobs that failed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pmqbench.workflow.failures import failure_list

RANKING = ("rank_models", "compare_training_seeds")


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

    Args:
        scheduler: Snakemake's scheduler.
    """
    jobs = [one for job in scheduler.failed for one in (job if job.is_group() else [job])]
    if jobs:
        told = [(job.rule.name, tuple(job.wildcards_dict.values()), tuple(map(str, job.log))) for job in jobs]
        sys.stderr.write(failure_list(told) + "\n")
