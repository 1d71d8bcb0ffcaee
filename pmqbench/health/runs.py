"""Runs of Snakemake over a results folder: who is at work, whose lock it is, and what was never finished."""

from __future__ import annotations

import os
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path

from pmqbench.health.findings import Finding
from pmqbench.workflow.progress import duration

PROC = Path("/proc")
STATE = ".snakemake"


def working_folder(results: Path) -> Path:
    """Where Snakemake works that writes a results folder; the folder itself may be a link to another file system."""
    return Path(os.path.abspath(results)).parent


def snakemakes(results: Path) -> list[int]:
    """Processes of this machine that run Snakemake over a results folder, from whichever working folder, but for this one.

    None where the system does not tell.
    """
    found, results = [], results.resolve()
    for process in PROC.glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = (process / "cwd" / "results").resolve() == results
        except OSError:  # it has ended, or is another user's
            continue
        if here and any(Path(word).name == "snakemake" for word in command[:4]):
            found.append(int(process.name))
    return sorted(pid for pid in found if pid != os.getpid())


def locks(results: Path) -> list[Path]:
    """Snakemake's lock files."""
    return sorted((working_folder(results) / STATE / "locks").glob("*.lock"))


def lock_finding(results: Path) -> Iterator[Finding]:
    """Who holds the lock, if there is one, and since when."""
    files, running = locks(results), snakemakes(results)
    if not files:
        return
    since = min(file.stat().st_mtime for file in files)
    held = f"since {time.strftime('%Y-%m-%d %H:%M', time.localtime(since))} ({duration(time.time() - since)})"
    if running:
        who = f"process {', '.join(map(str, running[:1]))} of this machine is at work {held}"
        yield Finding("lock", (who,), "Wait for it; nothing is removed meanwhile.", harmful=False)
    else:
        way_out = (
            "If none runs on another machine: make unlock (snakemake --unlock), then start again; what was finished is kept."
        )
        yield Finding("lock", (f"{held}, and no Snakemake of this machine works here",), way_out)


def incomplete(results: Path) -> list[str]:
    """Outputs of jobs that began and did not end, as paths from the working folder."""
    marks = working_folder(results) / STATE / "incomplete"
    names = (path.relative_to(marks).parts for path in marks.rglob("*") if path.is_file() and path.name != "migration_underway")
    return sorted(_decoded("".join(part.removeprefix("@") for part in name)) for name in names)


def _decoded(mark: str) -> str:
    try:
        return urlsafe_b64decode(mark).decode()
    except ValueError:
        return mark


def incomplete_finding(results: Path) -> Iterator[Finding]:
    """What was being made when a run ended; a run that is at work has such files too."""
    names = incomplete(results)
    if names and not snakemakes(results):
        way_out = "Run again: these are made anew (`--rerun-incomplete`, which profiles/default sets)."
        yield Finding("incomplete", tuple(names), way_out)
