"""Bars below the lines of a terminal: one for each rule at work and one for all jobs."""

from __future__ import annotations

import os
import threading

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from pmqbench.workflow.progress import Run, duration

STDERR = 2


class Bars:
    """Bars that stay below what is printed, by this process and by its jobs.

    Jobs write their warnings straight to stderr, in the middle of bars. So while there are bars, stderr is a pipe whose lines
    are printed above them.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def start(self, console: Console) -> None:
        """Begins to draw, unless it has begun."""
        if self.progress is not None:
            return
        self.terminal = os.dup(STDERR)
        console.file = os.fdopen(self.terminal, "w", encoding="utf-8", closefd=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
        self.progress = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        self.total = self.progress.add_task("all jobs", left="")
        self.rules = {}
        reading, writing = os.pipe()
        os.dup2(writing, STDERR)
        os.close(writing)
        self.reader = threading.Thread(target=relay, args=(reading, console), daemon=True)
        self.reader.start()
        self.progress.start()

    def update(self, run: Run, now: float) -> None:
        """Draws a run's state: bars of rules with running jobs, and the total with the time left."""
        if self.progress is None:
            return
        at_work = {job.rule for job in run.running.values()}
        for rule in at_work - self.rules.keys():
            self.rules[rule] = self.progress.add_task(rule, left="")
        for rule, bar in self.rules.items():
            finished = len(run.seconds.get(rule, ()))
            self.progress.update(bar, completed=finished, total=run.planned.get(rule), visible=rule in at_work)
        left = run.seconds_left(now)
        said = "" if left is None else f"{duration(left)} left"
        self.progress.update(self.total, completed=run.done, total=run.total, left=said)

    def stop(self) -> None:
        """Removes the bars and gives stderr back."""
        if self.progress is None:
            return
        progress, self.progress = self.progress, None
        os.dup2(self.terminal, STDERR)
        self.reader.join(timeout=1)  # a process that outlives its job may hold the pipe
        progress.stop()


def relay(reading: int, console: Console) -> None:
    """Prints the lines that come through a pipe until its last writer is gone."""
    with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            console.print(line.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
