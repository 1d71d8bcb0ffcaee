"""Snakemake's `--logger pmqbench`: a line per finished job with the time left, and in a terminal bars of the rules at work.

Snakemake finds logger plugins as top-level packages of this prefix; the Makefile puts the checkout on PYTHONPATH. The whole
story is in Snakemake's own log file, which is named at the end, and in the jobs' log files.
"""

from __future__ import annotations

import logging
import threading
import time

from rich.console import Console
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from pmqbench.workflow.failures import UNLOCK
from pmqbench.workflow.progress import Job, Run
from snakemake_logger_plugin_pmqbench.bars import Bars

KEPT = ("Nothing to be done", "Complete log", "This was a dry-run")
"""Beginnings of plain messages that are shown; warnings and errors are shown too."""
TOLD = ("RuleException", "CalledProcessError")
"""Exceptions of failed jobs, which have a line of their own, and a list at the end."""
SUPERFLUOUS = ("Exiting because a job execution failed", "WorkflowError:\nAt least one job did not complete")
"""Beginnings of errors that say no more than that list."""


SILENCE = 300.0
"""Seconds without a line, after which jobs that run for longer than that are listed with how far they are."""


class LogHandler(LogHandlerBase):
    """Shows a run's events, which Snakemake hands over one after the other from a thread of their own."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Makes the screen; bars come with the first job, and only in a terminal."""
        self.run = Run()
        self.bars = Bars()
        self.console = Console(stderr=not self.common_settings.stdout, no_color=self.common_settings.nocolor)
        self.said, self.closed = time.time(), threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Shows what an event means for the user, if anything; one that cannot be shown must not end a run."""
        try:
            self.show(record)
        except Exception:
            self.handleError(record)

    def show(self, record: logging.LogRecord) -> None:
        """Tells the run's state of an event, and prints what it says."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.plan(record)
        elif event == LogEvent.JOB_INFO and not self.common_settings.dryrun:
            if not self.run.running and self.console.is_terminal:
                self.bars.start(self.console)
            if self.watcher.ident is None:
                self.watcher.start()
            job = Job(record.rule_name, tuple(map(str, record.wildcards.values())), record.created, tuple(map(str, record.log)))
            self.run.start(record.jobid, job)
        elif event == LogEvent.JOB_FINISHED and not self.common_settings.dryrun:
            self.say(self.run.finish(record.job_id, record.created))
        elif event == LogEvent.JOB_ERROR:
            self.say(self.run.fail(record.jobid, record.created), "red")
        elif getattr(record, "exception", None) == "LockException":
            self.say(UNLOCK, "red")
        elif event in (None, LogEvent.ERROR) and getattr(record, "exception", None) not in TOLD:
            self.message(record)
        if self.run.done + len(self.run.failed) >= self.run.total:
            self.bars.stop()
        self.bars.update(self.run, record.created)

    def plan(self, record: logging.LogRecord) -> None:
        """Takes the jobs to come; a dry-run shows the list, once."""
        if self.run.planned:
            return
        self.run.planned = {rule: count for rule, count in record.stats.items() if rule != "total"}
        self.say(record.getMessage() if self.common_settings.dryrun else f"{self.run.total} jobs to do")

    def message(self, record: logging.LogRecord) -> None:
        """Prints what Snakemake says in words: warnings, errors, and the little else that a user needs."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING and not text.startswith(SUPERFLUOUS):
            self.say(text, "yellow" if record.levelno == logging.WARNING else "red")
        elif text.startswith(KEPT) or hasattr(record, "shown"):
            self.say(text)

    def say(self, text: str, style: str | None = None) -> None:
        """Prints a line, whole: whoever reads a file or a pipe has no 80 columns."""
        self.said = time.time()
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def watch(self) -> None:
        """Tells of jobs that run long, whenever nothing else was said for a while."""
        while not self.closed.wait(max(1.0, self.said + SILENCE - time.time())):
            if time.time() - self.said >= SILENCE:
                for line in self.run.long_running(time.time(), SILENCE):
                    self.say(f"still at work: {line}")
                self.said = time.time()

    def close(self) -> None:
        """Gives the terminal back."""
        self.closed.set()
        self.bars.stop()
        super().close()
