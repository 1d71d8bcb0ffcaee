"""What is told of a results folder: findings, and how they are listed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SHOWN = 6  # things of one kind


@dataclass(frozen=True)
class Finding:
    """Something that a user should know.

    Attributes:
        kind: one or two words ("damaged").
        things: what was found, a line each.
        way_out: what to do, or why there is nothing to do.
        harmful: whether something is wrong; else it is only told.
        remove: what `--remove` deletes: files, whose artefacts the next run makes again.
    """

    kind: str
    things: tuple[str, ...]
    way_out: str
    harmful: bool = True
    remove: tuple[Path, ...] = ()


def shortened(things: Iterable[str], whole: bool = False) -> list[str]:
    """The first things, and how many more there are; all of them if `whole`."""
    things = list(things)
    more = len(things) - SHOWN
    return things if whole or more <= 1 else [*things[:SHOWN], f"and {more} more (--all lists them)"]
