"""What jobs ask for: memory, minutes, disk and devices, as Snakemake's `resources:` of every rule.

On one machine nothing is held back by them unless limits are given (`--resources mem_mb=...`); a cluster's scheduler and a
workstation's profile go by them. They are the costs of `work.py` with room to spare, and grow with each attempt, so that
`retries` of a profile mend what was too little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pmqbench.recipes import Target
from pmqbench.tasks.definitions import Task
from pmqbench.workflow.evaluations import Evaluations
from pmqbench.workflow.layout import Layout
from pmqbench.workflow.quantizations import Batch, Quantizations
from pmqbench.workflow.sizes import Sizes
from pmqbench.workflow.work import Formulas, Work

ROOM_FOR_MEMORY = 1.3
"""Memory asked for over memory used."""
ROOM_FOR_TIME = 4.0
"""Time asked for over time on idle cores of the machine that was measured."""
LEAST_MINUTES = 10
DEVICE_MB = 3000
"""Host memory of CUDA's libraries; not measured."""
SNAKEMAKE_MB = 500
"""Of the two Snakemakes, 220 MB each, that a cluster's job runs in and its scheduler counts."""
Asked = Callable[..., int]
WorkOf = Callable[[Any], Work]


@dataclass(frozen=True)
class JobResources:
    """What the rules ask for. Methods that end in `_work` tell what a job with the given wildcards takes.

    Attributes:
        evaluations: of the suite; they know quantizations, stages and layout.
    """

    evaluations: Evaluations

    @property
    def quantizations(self) -> Quantizations:
        """Of the suite."""
        return self.evaluations.quantizations

    @cached_property
    def formulas(self) -> Formulas:
        """Of the suite's sizes."""
        return Formulas(Sizes(self._suite))

    def of(self, work: WorkOf, threads: int = 1) -> dict[str, Asked]:
        """A rule's resources.

        Args:
            work: wildcards -> what a job takes.
            threads: of a job.
        """
        known: dict[tuple[str, ...], Work] = {}

        def cached(wildcards: Any) -> Work:
            key = tuple(wildcards)
            if key not in known:
                known[key] = work(wildcards)
            return known[key]

        def mem_mb(wildcards: Any, attempt: int) -> int:
            """Twice as much on the second attempt, and so on."""
            return attempt * self.asked_mb(cached(wildcards))

        def runtime(wildcards: Any, attempt: int) -> int:
            """Minutes, on a device if one is asked for."""
            found = cached(wildcards)
            seconds = found.device_seconds if self.devices(found) else found.seconds_on(threads)
            minutes = ROOM_FOR_TIME * seconds / 60
            return (LEAST_MINUTES + math.ceil(minutes)) * attempt

        def disk_mb(wildcards: Any) -> int:
            """What is written, once more while it has a temporary name, and what is downloaded."""
            found = cached(wildcards)
            return _rounded(2 * found.disk_mb + found.download_mb, 10)

        def gpu(wildcards: Any) -> int:
            """Devices."""
            return self.devices(cached(wildcards))

        return {"mem_mb": mem_mb, "runtime": runtime, "disk_mb": disk_mb, "gpu": gpu}

    # --- data, base, experts, heads

    def data_work(self, wildcards: Any) -> Work:
        """Of a task's data."""
        return self.formulas.data(self.quantizations.stages.data_tasks[wildcards.data_id])

    def base_work(self, wildcards: Any) -> Work:
        """Of the base."""
        return self.formulas.base()

    def expert_work(self, wildcards: Any) -> Work:
        """Of an expert."""
        return self.formulas.expert(self._layout.experts[wildcards.expert])

    def head_work(self, wildcards: Any) -> Work:
        """Of the heads that a job makes."""
        name = wildcards.get("head")
        wanted = [task for task in self._suite.tasks if name in (None, self.head_name(task))]
        return self.formulas.heads(wanted)

    def head_name(self, task: Task) -> str:
        """A task's value of the wildcard `head`."""
        return Path(self._layout.head_file(task)).stem

    # --- merging

    def merge_work(self, wildcards: Any) -> Work:
        """Of a merge."""
        return self.formulas.merge(self._layout.merges[wildcards.merge])

    def merge_tuning_work(self, wildcards: Any) -> Work:
        """Of the choice of a merge's scaling."""
        return self.formulas.tuned_merge(self._layout.merges[wildcards.merge])

    # --- quantization

    def quantizer_work(self, wildcards: Any) -> Work:
        """Of one recipe's models: the wildcard's seed, or all."""
        models = self.quantizations.made(wildcards)
        return self.formulas.quantize([(models[0].quantizer, len(models))])

    def batch_work(self, batch: Batch) -> WorkOf:
        """Of all recipes of a batch."""

        def work(wildcards: Any) -> Work:
            return self.formulas.quantize([(recipe, len(self._suite.seeds)) for recipe in batch.recipes])

        return work

    def quantizer_tuning_work(self, wildcards: Any) -> Work:
        """Of the choice of a recipe's options."""
        return self._tuning([self.quantizations.made(wildcards)[0].quantizer])

    def batch_tuning_work(self, batch: Batch) -> WorkOf:
        """Of the choices of all recipes of a batch."""

        def work(wildcards: Any) -> Work:
            return self._tuning(batch.recipes)

        return work

    def refinement_work(self, wildcards: Any) -> Work:
        """Of one refined model."""
        return self.formulas.refine(self.quantizations.made(wildcards)[0].refinement)

    # --- evaluation and reports

    def evaluation_work(self, wildcards: Any) -> Work:
        """Of the models and tasks of a job."""
        models, tasks = self.evaluations.compared(wildcards)
        return self.formulas.evaluate(models, tasks)

    def gate_work(self, wildcards: Any) -> Work:
        """Of the comparison of experts and base."""
        return self.formulas.report(2 * len(self._suite.tasks))

    def report_work(self, wildcards: Any) -> Work:
        """Of a table, page or plot of a report."""
        return self.formulas.report(self._records[wildcards.report])

    def all_reports_work(self, wildcards: Any) -> Work:
        """Of what joins all reports."""
        return self.formulas.report(sum(self._records.values()))

    def training_seeds_work(self, wildcards: Any) -> Work:
        """Of the comparison of training seeds."""
        suites = self._suite.by_training_seed.values()
        return self.formulas.report(sum(records_of(Layout(suite), suite.targets["default"]) for suite in suites))

    def export_work(self, wildcards: Any) -> Work:
        """Of an exported model: like a model without data."""
        return self.formulas.export()

    # --- parts

    @property
    def _layout(self) -> Any:
        return self.evaluations.layout

    @property
    def _suite(self) -> Any:
        return self._layout.suite

    @cached_property
    def _records(self) -> dict[str, int]:
        """Report -> its records."""
        return {name: records_of(self._layout, target) for name, target in self._layout.targets.items()}

    def _tuning(self, recipes: Any) -> Work:
        return self.formulas.tuned_quantizer([(recipe, math.prod(map(len, recipe.tune.values()))) for recipe in recipes])

    def asked_mb(self, work: Work) -> int:
        """Memory that a job asks for at first."""
        return _rounded(ROOM_FOR_MEMORY * work.memory_mb + DEVICE_MB * self.devices(work) + SNAKEMAKE_MB, 100)

    def devices(self, work: Work) -> int:
        """None for the small models of batched jobs, which lose more than they gain; else one for each process at least."""
        asked = self._suite.job_gpus if work.on_device and not self._suite.batch_jobs else 0
        return max(asked, work.processes) if asked else 0


def records_of(layout: Layout, target: Target) -> int:
    """Records of a report on a target."""
    return sum(len(model.tasks) for model in layout.models_of(target))


def _rounded(value: float, step: int) -> int:
    return step * math.ceil(value / step)
