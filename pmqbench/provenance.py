"""What made an artefact: recipe, inputs, code, libraries, machine. It tells of numbers and changes none."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "open_clip_torch", "transformers", "datasets", "safetensors", "numpy", "snakemake")


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


@cache
def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES}


@cache
def git_commit(folder: str) -> str | None:
    """Commit of the checkout in `folder`, with "-dirty" if it has changes; None outside git."""
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def provenance(recipe: Mapping[str, Any], inputs: Mapping[str, str], code: str, device: str, threads: int) -> dict[str, Any]:
    """What made an artefact.

    Args:
        recipe: the recipe's full description.
        inputs: checksums or revisions of what went in, by name.
        code: hash of the project code of this stage.
        device: "cpu" or "cuda: <name>".
        threads: CPU threads of the numerical libraries.
    """
    return {
        "recipe": dict(recipe),
        "inputs": dict(inputs),
        "code": code,
        "git_commit": git_commit(str(Path(__file__).parents[1])),
        "versions": library_versions(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": threads,
    }
