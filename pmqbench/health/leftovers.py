"""Temporary files that killed jobs left behind, and whether a process still writes them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from pmqbench.health.findings import Finding
from pmqbench.health.runs import PROC
from pmqbench.workflow.progress import duration

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?|\.artifact\.uploading\.\w+")
"""Names that `files.atomic_path` gives, and MLflow to what it copies."""
NAMED = "[!.]*"
"""Pattern of all other names: a temporary file is told of once."""


def temporaries(results: Path) -> list[Path]:
    """Temporary files below a folder."""
    return sorted(path for path in results.rglob(".*") if TEMPORARY.fullmatch(path.name) and not path.is_dir())


def writers(paths: list[Path]) -> dict[Path, int]:
    """Those of the files that a process of this machine has open, with its number."""
    wanted = {str(path.resolve()): path for path in paths}
    found = {}
    for handle in PROC.glob("[0-9]*/fd/*") if paths else ():
        try:
            target = os.readlink(handle)
        except OSError:  # it has ended, or is another user's
            continue
        if target in wanted:
            found[wanted[target]] = int(handle.parts[-3])
    return found


def temporary_findings(results: Path, at_work: bool) -> Iterator[Finding]:
    """Orphaned temporaries; those that are written, or may be since a run is at work, are only told."""
    paths = temporaries(results)
    written = writers(paths)
    if written:
        things = tuple(f"{path}: process {pid} writes it" for path, pid in written.items())
        yield Finding("being written", things, "Wait, or end a process that no run waits for: kill PID.", harmful=False)
    orphans = () if at_work else tuple(path for path in paths if path not in written)
    if orphans:
        things = tuple(f"{path}: {_size(path)}, {duration(time.time() - path.lstat().st_mtime)} old" for path in orphans)
        yield Finding("orphaned", things, "No run reads them: pmqbench doctor --remove", remove=orphans)


def _size(path: Path) -> str:
    return f"{path.lstat().st_size / 1e6:.1f} MB"


def state_findings(results: Path) -> Iterator[Finding]:
    """Refinements that were stopped."""
    states = sorted((results / "states").rglob(f"{NAMED}.pt"))
    if states:
        way_out = "The next run goes on where they were; delete them if no suite asks for these models any more."
        yield Finding("unfinished", tuple(f"{path}: {_size(path)}" for path in states), way_out, harmful=False)
