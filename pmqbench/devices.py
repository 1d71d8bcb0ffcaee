"""Which GPUs a job computes on: its own, which no other job of this machine has.

Snakemake counts GPUs (`resources: gpu`) but says not which. So a job locks as many of those that it sees as it needs, and hides
the others from itself; where none is free it waits. The kernel drops a lock as its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from pmqbench.errors import ConfigError
from pmqbench.heartbeat import rounds

logger = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
HELD = "PMQBENCH_HELD_DEVICES"
"""The environment of a process that holds devices, and of those that it starts, which share them."""
SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
"""Of these a job sees its own devices only, under names that another job may have for others."""
POLL_SECONDS = 0.5


def lock_folder() -> Path:
    """Where the locks are: one folder a user, whatever TMPDIR is; one of its own in a job of a cluster's scheduler."""
    job = next((f"-{os.environ[name]}" for name in SCHEDULERS if name in os.environ), "")
    return Path(f"/tmp/pmqbench-devices-{os.getuid()}{job}")


def visible(count: int) -> list[str]:
    """Names of the devices that this process sees, as CUDA_VISIBLE_DEVICES has them.

    Args:
        count: how many there are.
    """
    named = os.environ.get(VISIBLE)
    return [name.strip() for name in named.split(",")][:count] if named else [str(place) for place in range(count)]


def take_devices(needed: int, names: Sequence[str]) -> list[str]:
    """Locks devices for this process and makes them the only ones that it and its children see; waits until enough are free.

    To be called before CUDA is, which reads once what is visible. A process that holds devices already, or whose parent does,
    keeps those.

    Args:
        needed: how many.
        names: those that it may have, as CUDA_VISIBLE_DEVICES has them.

    Returns:
        Those that it has.

    Raises:
        ConfigError: there are fewer than it needs, free or not.
    """
    if HELD in os.environ:
        return list(names)
    if needed > len(names):
        what = f"the job needs {needed} GPUs and sees {len(names)}."
        raise ConfigError(what, where="processes", remedy=f"Give the job more, or set it to {len(names)} or less.")
    folder = lock_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    # One job at a time collects devices: two that each had some of what they need would wait for each other.
    turn = os.open(folder / "turn", os.O_RDWR | os.O_CREAT)
    with rounds("GPUs", needed):  # so that a command that has no log says what it waits for, too
        if not _locked(turn):
            logger.info("waiting for a GPU: other jobs are waiting already")
            fcntl.flock(turn, fcntl.LOCK_EX)
        taken = _collect(needed, names, folder)
    os.close(turn)
    os.environ[HELD] = os.environ[VISIBLE] = ",".join(taken)
    logger.info("GPU %s of %s", os.environ[VISIBLE], ",".join(names))
    return taken


def _collect(needed: int, names: Sequence[str], folder: Path) -> list[str]:
    """The devices that were free first, locked until this process ends: their files are never closed."""
    files = {name: os.open(folder / name.replace("/", "_"), os.O_RDWR | os.O_CREAT) for name in names}
    taken: list[str] = []
    told = False
    while len(taken) < needed:
        for name in names:
            if name not in taken and len(taken) < needed and _locked(files[name]):
                taken.append(name)
        if len(taken) < needed:
            if not told:
                logger.info("waiting for a GPU: %s of %s are taken by other jobs", len(names) - len(taken), len(names))
            told = True
            time.sleep(POLL_SECONDS)
    for name in files.keys() - set(taken):
        os.close(files[name])
    return taken


def _locked(file: int) -> bool:
    """Locks an open file if no other process has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
