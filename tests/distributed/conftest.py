"""Fixture: what one process gets and what two get of the same work, from one start of two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pmqbench.jobs import show_warnings, taken_warnings
from pmqbench.processes import run_spread
from tests.distributed import work
from tests.distributed.failing import job


@dataclass(frozen=True)
class Outcome:
    """Results by name, the files of each process, and what was warned of."""

    found: dict[str, Any]
    files: list[str]
    warnings: list[str]


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Outcome]:
    """By the number of processes."""
    return {processes: run(processes, tmp_path_factory.mktemp("work")) for processes in (1, 2)}


def run(processes: int, folder: Path) -> Outcome:
    show_warnings()
    taken_warnings()
    run_spread(work.everything, job(processes, folder=str(folder)))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.pt*"))
    return Outcome(dict(work.found), files, taken_warnings())
