"""The jobs of a target, what each takes and what it waits for, without Snakemake: what `pmqbench estimate` sums up.

It follows the rules in rules/, job by job; tests/workflow/test_estimate.py compares it with Snakemake's own count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from snakemake.iocontainers import Wildcards

from pmqbench.recipes import MergeRecipe, Target
from pmqbench.tasks.definitions import Task
from pmqbench.workflow.evaluations import Evaluations
from pmqbench.workflow.layout import Layout, Model
from pmqbench.workflow.quantizations import Batch, Quantizations
from pmqbench.workflow.reports import Reports
from pmqbench.workflow.resources import JobResources
from pmqbench.workflow.stages import Stages
from pmqbench.workflow.training_seeds import TrainingSeeds
from pmqbench.workflow.work import Work

Key = tuple[str, ...]
"""A rule and what tells its jobs apart."""


@dataclass(frozen=True)
class Job:
    """A job: its rule, what it takes, and the keys of the jobs that it waits for."""

    rule: str
    work: Work
    needs: tuple[Key, ...]


@dataclass(frozen=True)
class Jobs:
    """The jobs of a suite, found as they are asked for.

    Attributes:
        layout: of the suite.
        code_of: manifest or record -> hash of the code that made it; decides which jobs are batched.
        found: all jobs so far by key; training seeds share them, as ids cover the base.
    """

    layout: Layout
    code_of: Callable[[str], str | None]
    found: dict[Key, Job] = field(default_factory=dict)

    # --- targets

    def report(self, target: Target) -> None:
        """A target's report."""
        reports, name = self.reports, target.report

        def job(rule: str, *needs: Key) -> Key:
            return self._job(rule, self.resources.report_work, needs, report=name)

        models = list(self.layout.models_of(target))
        evaluated = [key for model in models for key in self.evaluated(model)]
        records = job("collect_records", *evaluated, *map(self.made, models))
        warnings = job("collect_warnings", records, self.gate, *self.data())
        ranked = job("rank_models", records, warnings)
        drawn = job("answer_ablations" if target.ablations else "plot_comparison", records)
        job("write_page", ranked, warnings)
        if reports.published:
            job("compare_published", records, self.gate)
        job("track_runs", ranked, drawn)

    def training_seeds(self) -> None:
        """The report of all training seeds."""
        needs = []
        seeds = TrainingSeeds(self.layout)
        anew = {suite.base_id for suite in seeds.anew().values()}
        for layout in seeds.layouts.values():
            jobs = Jobs(layout, self.code_of, self.found) if layout.suite.base_id in anew else self
            models = layout.models_of(layout.suite.targets["default"])
            needs += [key for model in models for key in jobs.evaluated(model)]
        self._job("compare_training_seeds", self.resources.training_seeds_work, needs)

    # --- evaluation

    def evaluated(self, model: Model) -> list[Key]:
        """The jobs that evaluate a model."""
        suite = self.layout.suite
        if model.kind == "expert":
            (task,) = (self.layout.tasks[name] for name in model.tasks)
            return [self._evaluation("evaluate_expert", [model], [task], model=model.id)]
        if model.id in self._by_merge:
            merge = self._by_merge[model.id]
            models = self.evaluations.by_merge[merge]
            return [self._evaluation("evaluate_merge", models, suite.tasks, merge=merge)]
        path = model.folder.split("/", 2)[2].rpartition("/")[0] if model.seed is not None else ""
        if path in self._seeds_in_one_job:
            models = self.quantizations.seeded()[path]
            return [self._evaluation("evaluate_seeds", models, suite.tasks, quantized=path)]
        if suite.batch_jobs:
            return [self._evaluation("evaluate_model", [model], suite.tasks, model=model.id)]
        return [self._evaluation("evaluate_model", [model], [task], model=model.id) for task in suite.tasks]

    def _evaluation(self, rule: str, models: Iterable[Model], tasks: Iterable[Task], **wildcards: str) -> Key:
        tasks = list(tasks)
        if len(tasks) == 1:
            wildcards["record"] = self.layout.record_name(tasks[0]).removesuffix(".json")
        needs = [*map(self.made, models), *self.data(tasks), *self.heads(tasks)]
        return self._job(rule, self.resources.evaluation_work, needs, **wildcards)

    @cached_property
    def gate(self) -> Key:
        """The comparison of experts and base."""
        models = (*self.layout.expert_models, self.layout.base_model)
        needs = [key for model in models for key in self.evaluated(model)]
        return self._job("check_experts", self.resources.gate_work, needs, suite=self.layout.suite.name)

    # --- models

    def made(self, model: Model) -> Key:
        """The job that makes a model."""
        if model.kind == "base":
            return self.base
        if model.kind == "expert":
            return self.expert(self.layout.tasks[model.tasks[0]])
        if model.kind == "merged":
            return self.merge(model.merge)
        return self.refined(model) if model.refinement else self.quantized(model)

    def refined(self, model: Model) -> Key:
        """A refined model."""
        path = f"{model.merge.id}/{model.quantizer.path}"
        starts = self.layout.quantized[f"{model.merge.id}/{model.quantizer.id}"]
        start = next(start for start in starts if start.seed in (None, model.seed))
        needs = [self.quantized(start), *self.experts, *self.data()]
        return self._job("refine_model", self.resources.refinement_work, needs, quantized=path, seed=str(model.seed))

    def quantized(self, model: Model) -> Key:
        """A quantized model."""
        path, merge = f"{model.merge.id}/{model.quantizer.id}", model.merge.id
        needs = [self.merge(model.merge)]
        if model.seed is None:
            tuning = [self.choice(path)] if model.quantizer.tune else []
            return self._job("quantize_model", self.resources.quantizer_work, [*needs, *tuning], quantized=path)
        needs += [*self.experts, *self.data()]
        batch = _batch_of(path, self.quantizations.batches)
        paths = batch.paths(merge) if batch else [path]
        needs += [self.choice(one) for one in paths if self.layout.quantized[one][0].quantizer.tune]
        if batch:
            return self._job(f"calibrate_{batch.method}", self.resources.batch_work(batch), needs, merge=merge)
        if path in self._in_one_job:
            return self._job("calibrate_seeds", self.resources.quantizer_work, needs, quantized=path)
        return self._job("calibrate_model", self.resources.quantizer_work, needs, quantized=path, seed=str(model.seed))

    def choice(self, path: str) -> Key:
        """The choice of a recipe's options."""
        merge = self.layout.quantized[path][0].merge
        needs = [self.merge(merge), *self.experts, *self.data(), *self.heads(self.layout.suite.tasks)]
        if batch := _batch_of(path, self.quantizations.tuning_batches):
            return self._job(f"tune_{batch.method}", self.resources.batch_tuning_work(batch), needs, merge=merge.id)
        return self._job("tune_quantizer", self.resources.quantizer_tuning_work, needs, quantized=path)

    def merge(self, merge: MergeRecipe) -> Key:
        """A merged model."""
        needs = [self.base, *self.experts, *([self.gate] if self.reports.published else [])]
        if merge.tune_scaling:
            seen = [*self.data(), *self.heads(self.layout.suite.tasks)]
            needs.append(self._job("tune_scaling", self.resources.merge_tuning_work, [*needs, *seen], merge=merge.id))
        calibrated = merge.method.calibrated
        needs += self.data() if calibrated else []
        return self._job("calibrate_merge" if calibrated else "merge_experts", self.resources.merge_work, needs, merge=merge.id)

    # --- data, base, experts, heads

    @cached_property
    def experts(self) -> tuple[Key, ...]:
        """All experts."""
        return tuple(self.expert(task) for task in self.layout.suite.tasks)

    def expert(self, task: Task) -> Key:
        """A task's expert."""
        trained = [*self.data([task]), *self.heads([task])] if self.layout.suite.experts.trains else []
        expert = self.layout.suite.expert_id(task)
        return self._job("fetch_expert", self.resources.expert_work, [self.base, *trained], expert=expert)

    @cached_property
    def base(self) -> Key:
        """The base."""
        suite = self.layout.suite
        needs = self.data() if suite.base.trains else []
        return self._job("fetch_base", self.resources.base_work, needs, base=suite.base_id)

    def heads(self, tasks: Iterable[Task]) -> list[Key]:
        """The heads of tasks."""
        if not self.layout.protocol.uses_heads:
            return []
        base, batched = self.layout.suite.base_id, self.layout.suite.batch_jobs
        names = [{}] if batched else [{"head": self.resources.head_name(task)} for task in tasks]
        return [self._job("build_heads", self.resources.head_work, [self.base], base=base, **name) for name in names]

    def data(self, tasks: Iterable[Task] | None = None) -> list[Key]:
        """The data of tasks, all by default."""
        if tasks is None:
            return self._all_data
        return [self._job("prepare_task", self.resources.data_work, [], data_id=task.data_id) for task in tasks]

    # --- parts

    @cached_property
    def _all_data(self) -> list[Key]:
        return self.data(self.layout.suite.tasks)

    @cached_property
    def quantizations(self) -> Quantizations:
        """Which jobs are batched."""
        return Quantizations(Stages(self.layout, self.code_of))

    @cached_property
    def evaluations(self) -> Evaluations:
        """Which evaluations are batched."""
        return Evaluations(self.quantizations)

    @cached_property
    def resources(self) -> JobResources:
        """What jobs take."""
        return JobResources(self.evaluations)

    @cached_property
    def reports(self) -> Reports:
        """Of the suite."""
        return Reports(self.layout)

    @cached_property
    def _by_merge(self) -> dict[str, str]:
        """Model -> the merge whose job evaluates it."""
        return {model.id: merge for merge, models in self.evaluations.by_merge.items() for model in models}

    @cached_property
    def _in_one_job(self) -> frozenset[str]:
        return frozenset(self.quantizations.in_one_job)

    @cached_property
    def _seeds_in_one_job(self) -> frozenset[str]:
        return frozenset(self.evaluations.in_one_job)

    def _job(self, rule: str, work: Callable[[Any], Work], needs: Iterable[Key], **wildcards: str) -> Key:
        key = (rule, *wildcards.values())
        if key not in self.found:
            self.found[key] = Job(rule, work(Wildcards(fromdict=wildcards)), tuple(dict.fromkeys(needs)))
        return key


def _batch_of(path: str, batches: Iterable[Batch]) -> Batch | None:
    """The batch that a recipe's models are made in."""
    return next((batch for batch in batches if path in batch.paths()), None)
