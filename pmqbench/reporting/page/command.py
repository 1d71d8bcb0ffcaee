"""The command line that makes a report's files again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmqbench.code_hash import ROOT

SNAKEFILE = "Snakefile"


def snakemake_command(configfiles: Sequence[str], changes: Mapping[str, Any]) -> list[str]:
    """How Snakemake is called in the folder that it works in, up to the files it is to make.

    Args:
        configfiles: as they are named there.
        changes: keys of the config that were given on the command line, with their values.
    """
    snakefile = path_from_here(ROOT / SNAKEFILE)
    elsewhere = [] if snakefile == SNAKEFILE else ["--snakefile", snakefile]
    changed = ["--config", *(f"{key}={argument(value)}" for key, value in changes.items())] if changes else []
    return ["snakemake", *elsewhere, "--cores", "all", "--configfile", *configfiles, *changed, "--"]


def path_from_here(path: str | Path) -> str:
    """A path as one would write it in the working folder: relative if it is below."""
    whole, here = Path(path).resolve(), Path.cwd()
    return (whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()


def argument(value: Any) -> str:
    """A value of the config as Snakemake reads it from the command line."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | dict) else str(value)
