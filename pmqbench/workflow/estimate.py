"""What a target costs before it is run: jobs by rule, time, memory, disk and downloads, from its config alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from pmqbench.families.sizes import ModelSize
from pmqbench.recipes import Suite
from pmqbench.workflow.jobs import Job, Jobs, Key
from pmqbench.workflow.layout import Layout
from pmqbench.workflow.resources import JobResources
from pmqbench.workflow.work import MEASURED, Work


@dataclass(frozen=True)
class Row:
    """The jobs of one rule, or of all.

    Attributes:
        jobs: how many.
        core_hours: of all of them on a CPU.
        device_hours: of those that run models, on the assumed device.
        longest: hours of the longest job on the cores at hand.
        memory_mb: the most that one asks for.
        disk_mb: what all of them write.
    """

    rule: str
    jobs: int
    core_hours: float
    device_hours: float
    longest: float
    memory_mb: int
    disk_mb: float


@dataclass(frozen=True)
class Estimate:
    """What a target of a suite costs.

    Attributes:
        suite, target: of what; the target by the name of its rule.
        cores: of the machine.
    """

    suite: Suite
    target: str
    cores: int = os.cpu_count() or 1

    @cached_property
    def rows(self) -> list[Row]:
        """A row a rule, in the order in which they can begin."""
        levels: dict[Key, int] = {}
        first: dict[str, int] = {}
        works: dict[str, list[Work]] = {}
        for key, job in self.jobs.items():  # what a job needs stands before it
            levels[key] = 1 + max((levels[needed] for needed in job.needs), default=0)
            first[job.rule] = min(first.get(job.rule, levels[key]), levels[key])
            works.setdefault(job.rule, []).append(job.work)
        return [self._row(rule, works[rule]) for rule in sorted(works, key=first.__getitem__)]

    @cached_property
    def total(self) -> Row:
        """All jobs."""
        return self._row("all", [job.work for job in self.jobs.values()])

    @cached_property
    def jobs(self) -> dict[Key, Job]:
        """All jobs, none of which is done yet."""
        if self.target == "seeds":
            self._jobs.reports.folder("seeds")  # an error if there are none
            self._jobs.training_seeds()
        else:
            self._jobs.report(self._jobs.reports.target(self.target))
        return self._jobs.found

    @cached_property
    def chain_hours(self) -> float:
        """The longest chain of jobs that wait for each other: no number of machines like this one is faster."""
        ends: dict[Key, float] = {}
        for key, job in self.jobs.items():  # what a job needs stands before it
            ends[key] = self._hours(job.work) + max((ends[needed] for needed in job.needs), default=0.0)
        return max(ends.values())

    @property
    def wall_hours(self) -> float:
        """At least, on the cores at hand, if they have nothing else to do."""
        busy = sum(self._hours(job.work) * self._threads(job.work) for job in self.jobs.values()) / self.cores
        return max(busy, self.chain_hours)

    @property
    def model(self) -> ModelSize:
        """The model's size."""
        return self.resources.formulas.sizes.model

    @property
    def download_mb(self) -> float:
        """Models from the hub."""
        return sum(job.work.download_mb for job in self.jobs.values())

    @property
    def data_sets(self) -> int:
        """Data sets from the hub, whose sizes only the hub knows."""
        return sum(task.has_data and task.data_source().downloads for task in self.suite.tasks)

    @property
    def devices(self) -> bool:
        """Whether jobs ask for devices."""
        return any(self.resources.devices(job.work) for job in self.jobs.values())

    @property
    def notes(self) -> list[str]:
        """What the figures rest on."""
        found = ["Times are those of idle cores like the measured ones, without waiting for downloads: docs/scaling.md."]
        if self.resources.formulas.sizes.assumed:
            found.append("Nothing is known of the model before it is there: it counts as a ViT-L/14.")
        guessed = self.resources.formulas.sizes.guessed
        if guessed:
            found.append(f"The number of test examples is not known of {', '.join(guessed)}: 10,000 each.")
        if self.devices:
            speed = MEASURED["device_flops_per_second"] / 1e12
            found.append(f"GPU hours are not measured: products at {speed:.0f} TFLOP/s, everything else as on a core.")
        return found

    @cached_property
    def _jobs(self) -> Jobs:
        return Jobs(Layout(self.suite), lambda path: None)

    @property
    def resources(self) -> JobResources:
        """What jobs ask for."""
        return self._jobs.resources

    def _threads(self, work: Work) -> int:
        """Jobs of small suites run side by side; one of a large one that runs models or merges has all cores."""
        return self.cores if work.flops and not self.suite.batch_jobs else 1

    def _hours(self, work: Work) -> float:
        return work.seconds_on(self._threads(work)) / 3600

    def _row(self, rule: str, works: Iterable[Work]) -> Row:
        works = list(works)
        return Row(
            rule,
            len(works),
            sum(work.core_seconds for work in works) / 3600,
            sum(work.device_seconds for work in works if self.resources.devices(work)) / 3600,
            max(map(self._hours, works)),
            max(map(self.resources.asked_mb, works)),
            sum(work.disk_mb for work in works),
        )
