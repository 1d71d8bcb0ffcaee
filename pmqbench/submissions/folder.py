"""Where submitted results lie. Snakemake imports this while it parses."""

from __future__ import annotations

from pathlib import Path

ENTRIES = Path(__file__).parents[2] / "leaderboard" / "entries"


def entry_files(folder: Path = ENTRIES) -> list[str]:
    """The files of all entries, as one would name them in the working folder."""
    here = Path.cwd()
    found = sorted(folder.glob("*.json"))
    return [(path.relative_to(here) if path.is_relative_to(here) else path).as_posix() for path in found]
