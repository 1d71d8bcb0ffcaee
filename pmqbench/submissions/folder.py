"""Where submitted results lie. Snakemake imports this while it parses."""

from __future__ import annotations

from pathlib import Path

ENTRIES = Path(__file__).parents[2] / "leaderboard" / "entries"


def entry_files(folder: Path = ENTRIES) -> list[str]:
    """The files of all entries."""
    return sorted(map(str, folder.glob("*.json")))
