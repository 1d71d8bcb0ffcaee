"""How far a run of the workflow is: which jobs run, what a finished one took, and how long the rest will take."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POSITION = re.compile(r" INFO pmqbench\.heartbeat: (\w+ \d+ of [^;\n]*);")
"""A line of pmqbench/heartbeat.py in a job's log."""
TAIL = 4096  # bytes of a log that are looked at


@dataclass(frozen=True)
class Job:
    """A job that runs: its rule, its wildcards' values, when it began, and its log files."""

    rule: str
    wildcards: Sequence[str]
    began: float
    logs: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Rule and wildcards' values: 'merge_experts ties-1f0c22aa'."""
        return " ".join((self.rule, *self.wildcards))

    def position(self) -> str:
        """What it last wrote of how far it is: 'layers 31 of 72: 43% done, 8 min left'; '' if it has not."""
        for log in map(Path, self.logs):
            if log.is_file():
                with open(log, "rb") as file:
                    file.seek(max(0, log.stat().st_size - TAIL))
                    if found := POSITION.findall(file.read().decode(errors="replace")):
                        return found[-1]
        return ""


@dataclass
class Run:
    """A run's state, told by the workflow's events; times are seconds of any one clock.

    Attributes:
        planned: number of jobs of every rule.
        running: jobs by id.
        seconds: what the finished jobs of every rule took.
        failed: rules of failed jobs by id.
        began: when the first job did.
    """

    planned: Mapping[str, int] = field(default_factory=dict)
    running: dict[int, Job] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    began: float | None = None

    @property
    def total(self) -> int:
        """Number of jobs."""
        return sum(self.planned.values())

    @property
    def done(self) -> int:
        """Number of jobs that succeeded."""
        return sum(map(len, self.seconds.values()))

    def start(self, jobid: int, job: Job) -> None:
        """A job begins, maybe once more."""
        self.failed.pop(jobid, None)
        self.running[jobid] = job
        self.began = job.began if self.began is None else self.began

    def finish(self, jobid: int, now: float) -> str:
        """A job ends well; returns the line that says so."""
        job = self.running.pop(jobid)
        took = now - job.began
        self.seconds.setdefault(job.rule, []).append(took)
        left = self.seconds_left(now)
        rest = f", {duration(left)} left" if left is not None and self.done < self.total else ""
        return f"{self.done:{len(str(self.total))}}/{self.total} {job.name} ({duration(took)}){rest}"

    def fail(self, jobid: int, now: float) -> str:
        """A job fails; returns the line that says so."""
        job = self.running.pop(jobid)
        self.failed[jobid] = job.rule
        return f"FAILED {job.name} ({duration(now - job.began)})"

    def long_running(self, now: float, seconds: float) -> list[str]:
        """A line for each job that has been running for so long, with how far it is."""
        long = [job for job in [*self.running.values()] if now - job.began >= seconds]
        return [": ".join(filter(None, (f"{job.name} ({duration(now - job.began)})", job.position()))) for job in long]

    def seconds_left(self, now: float) -> float | None:
        """Estimate for the jobs that are left; None before one has finished.

        A job is taken to need the mean of its rule's finished ones, or of all finished ones where its rule has none yet; as
        many run side by side as did so far.
        """
        finished = [took for rule in self.seconds.values() for took in rule]
        if not finished or self.began is None:
            return None
        overall = sum(finished) / len(finished)
        mean = {rule: sum(took) / len(took) for rule, took in self.seconds.items()}
        waiting = Counter(self.planned)
        waiting.subtract({rule: len(took) for rule, took in self.seconds.items()})
        waiting.subtract(Counter(self.failed.values()))
        waiting.subtract(Counter(job.rule for job in self.running.values()))
        work = sum(count * mean.get(rule, overall) for rule, count in waiting.items())
        work += sum(max(0.0, mean.get(job.rule, overall) - (now - job.began)) for job in self.running.values())
        busy = sum(finished) + sum(now - job.began for job in self.running.values())
        return work / max(1.0, busy / max(now - self.began, 1e-9))


def duration(seconds: float) -> str:
    """'8 s', '4 min', '2 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
