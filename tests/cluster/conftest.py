"""A real Slurm for the session, and the small suite run through it once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.cluster.slurm import Slurm, missing
from tests.faults.conftest import copy_of, reference, small, undisturbed
from tests.faults.suite import CONFIG, Disturbed

__all__ = ["reference", "small", "undisturbed"]
ONE_AT_A_TIME = Path("/tmp/pmqbench-slurm.lock")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """This machine as a cluster of one node; one test process at a time has it."""
    with FileLock(ONE_AT_A_TIME):
        if why := missing():
            pytest.skip(f"no Slurm can be started: {why}")
        running = Slurm.start(cores=os.cpu_count() or 1)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="session")
def profile(small) -> tuple[str, ...]:
    """Options of every run: the profile, asking more often than a cluster would like."""
    return ("--profile", str(small.source / "profiles/slurm"), "--slurm-init-seconds-before-status-checks", "1", *CONFIG)


@pytest.fixture(scope="session")
def through_slurm(slurm, small, profile, tmp_path_factory) -> tuple[Disturbed, str]:
    """The small suite from nothing to its report, every job by sbatch; and what Snakemake said."""
    project = copy_of(small, tmp_path_factory.mktemp("slurm"))
    return project, project.snakemake(*profile, timeout=1800)


@pytest.fixture
def finished(through_slurm, tmp_path) -> Disturbed:
    """A copy of the finished run."""
    return copy_of(through_slurm[0], tmp_path)
