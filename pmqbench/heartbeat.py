"""Where a long job is: twice a minute a line in its log, so that `tail -f` and redirected output show it; none in a short job.

Loops say how many rounds they have (`each`, `rounds`); a thread writes the lines, so that one long round is no silence either.
It also writes how memory grows: of a job that is killed nothing else tells.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from pmqbench.machine import memory_gb
from pmqbench.workflow.progress import duration

logger = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two lines, and before the first."""
GROWTH = 1.25
"""Memory is written when it has grown by this factor,"""
FROM_GB = 1.0
"""from this much."""

Item = TypeVar("Item")


@dataclass
class Rounds:
    """A loop at work.

    Attributes:
        what: what its rounds are ("layers").
        total: how many.
        done: how many are done.
        before: how many of these were done when it began: by a job that was stopped, and goes on.
        began: when it did, as time.monotonic.
    """

    what: str
    total: int
    done: int = 0
    before: int = field(init=False)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.before = self.done

    def advance(self, rounds: int = 1) -> None:
        """So many more are done."""
        self.done += rounds


_at_work: list[Rounds] = []


@contextmanager
def rounds(what: str, total: int, done: int = 0) -> Iterator[Rounds]:
    """A loop of `total` rounds, within those that are at work; its body calls `advance`."""
    loop = Rounds(what, total, done)
    _at_work.append(loop)
    try:
        yield loop
    finally:
        _at_work.remove(loop)


def each(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The items, one a round."""
    items = list(items)
    with rounds(what, len(items)) as loop:
        for item in items:
            yield item
            loop.advance()


def position(loops: list[Rounds], now: float) -> str:
    """'models 2 of 12, layers 31 of 72: 20 % done, 8 min left'; the time is that of the outermost loop. '' without a loop."""
    loops = [loop for loop in loops if loop.total]
    if not loops:
        return ""
    share = 0.0
    for loop in reversed(loops):
        share = (loop.done + share) / loop.total
    outer = loops[0]
    gained = share - outer.before / outer.total
    left = f", {duration((now - outer.began) * (1 - share) / gained)} left" if gained > 0 else ""
    counted = ", ".join(f"{loop.what} {loop.done} of {loop.total}" for loop in loops)
    return f"{counted}: {share:.0%} done{left}"


@contextmanager
def heartbeat(every: float = EVERY) -> Iterator[None]:
    """Writes lines as long as its block runs."""
    stop = threading.Event()
    writer = threading.Thread(target=_write, args=(stop, every), daemon=True)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def show_heartbeat() -> None:
    """From now on the lines go to stderr: for work that has no log."""
    if not logger.handlers:
        shown = logging.StreamHandler()
        shown.setFormatter(logging.Formatter("  %(message)s"))
        logger.addHandler(shown)
        logger.setLevel(logging.INFO)


def _write(stop: threading.Event, every: float) -> None:
    began, told, largest = time.monotonic(), time.monotonic(), FROM_GB / GROWTH
    while not stop.wait(min(1.0, every)):
        now, memory = time.monotonic(), memory_gb()
        if memory >= GROWTH * largest:
            largest = memory
            logger.info("memory: %.1f GB", memory)
        if now - told >= every:
            told = now
            where = position([*_at_work], now) or "at work"
            logger.info("%s; %s so far, %.1f GB of memory", where, duration(now - began), memory)
