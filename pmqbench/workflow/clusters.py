"""What a run must know of the cluster that it is started on."""

from __future__ import annotations

import os
import shutil
import subprocess

from pmqbench.errors import PMQError

ANSWER_SECONDS = 20.0
FORMAT = "%i\t%k\t%Z"  # of squeue: job, comment, working folder


def refuse_orphans() -> None:
    """Refuses to start beside Slurm jobs of an earlier run in this folder: they write what this run would write again.

    Snakemake has locked the folder by now, so no run is alive that waits for them. One that is killed leaves its jobs in the
    queue, and each that fails or is cancelled later deletes its outputs, whoever has made them by then.

    Raises:
        PMQError: there are such jobs.
    """
    if shutil.which("squeue") is None:
        return
    asked = ["squeue", "--me", "--noheader", f"--format={FORMAT}"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return  # of a Slurm that is down nothing is known, and a run on this machine alone needs nothing of it
    if orphans := orphaned(told.stdout, os.getcwd()):
        ids = " ".join(orphans)
        what = f"jobs of an earlier run of this folder, which was killed, are still in the queue: {ids}."
        remedy = f"Cancel them (scancel {ids}) or wait until they are done (squeue --me), then start again."
        raise PMQError(what, where="Slurm", remedy=remedy)


def orphaned(queue: str, folder: str) -> list[str]:
    """Ids of the jobs that Snakemake has submitted from a folder.

    Args:
        queue: squeue's lines by FORMAT.
        folder: where Snakemake works.
    """
    jobs = (line.split("\t") for line in queue.splitlines())
    return [job for job, comment, work in jobs if comment.startswith(("rule_", "group_")) and work == folder]
