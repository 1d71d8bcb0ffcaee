"""The errors a user meets. Each says what is wrong, where, and what to do; scripts print them without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class PMQError(Exception):
    """Base of all errors that are the input's fault, not the code's.

    Args:
        what: what is wrong, one sentence.
        where: file, config key path, task, layer, expert: whatever finds the place.
        remedy: what the user can do about it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(printable(": ".join(part for part in (where, what) if part) + (f" {remedy}" if remedy else "")))


class ConfigError(PMQError):
    """The configuration asks for something that does not exist or cannot be done."""


class DataError(PMQError):
    """A file, tensor or data set is missing, corrupted or of another shape than its peers."""


class HubError(PMQError):
    """A model hub cannot be reached, refuses access, or has not what was asked for."""


class NumericalError(PMQError):
    """NaN or Inf where numbers should be, or a matrix that cannot be factorised."""


class ResourceError(PMQError):
    """The machine has not what the work needs: memory, space on disk, the right to write."""


def printable(text: str) -> str:
    """`text` with whatever could steer a terminal, or cannot be encoded, as its escape: names come from files of others."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'Did you mean "x"?' for a near miss, else the list of what is known."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(known) or 'none'}."


def listed(items: Sequence[Any], most: int = 3) -> str:
    """'a, b, c and 4 more'."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more
