"""Where submitted results lie. Snakemake imports this while it parses."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).parents[2] / "leaderboard"
ENTRIES = (CHECKOUT if CHECKOUT.is_dir() else Path("leaderboard")) / "entries"
"""In the checkout; of an installed package, which has none, in the working folder."""


def entry_files(folder: Path = ENTRIES) -> list[str]:
    """The files of all entries."""
    return [named(path).as_posix() for path in sorted(folder.glob("*.json"))]


def named(path: Path) -> Path:
    """A path as one would name it in the working folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
