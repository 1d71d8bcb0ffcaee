"""Inputs, plans and code of evaluation, as functions of a suite and a job's wildcards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pmqbench.evaluation.guard import PACKED
from pmqbench.tasks.definitions import Task
from pmqbench.workflow.layout import DATA, EVALUATIONS, Layout, Model
from pmqbench.workflow.quantizations import Quantizations
from pmqbench.workflow.stages import Plan


@dataclass(frozen=True)
class Evaluations:
    """What the rules of evaluation are made of; `quantizations` make the models."""

    quantizations: Quantizations

    @property
    def layout(self) -> Layout:
        """Of the suite."""
        return self.quantizations.layout

    @cached_property
    def by_merge(self) -> dict[str, list[Model]]:
        """Merge -> models that one job evaluates: in a suite of small jobs, where no record of a merge is there yet, the merge
        itself and all of its quantized models in the default target that are not refined.
        """
        if not self.layout.suite.batch_jobs:
            return {}
        default = self.layout.suite.targets["default"]
        found: dict[str, list[Model]] = {merge.id: [self.layout.merged_model(merge)] for merge in default.merges}
        for merge, recipe in default.pairs:
            found[merge.id] += [] if recipe.refinement else self.layout.quantized_models(merge, recipe)
        unique = {merge: list({model.id: model for model in models}.values()) for merge, models in found.items()}
        common = set.intersection(*({self._below(model) for model in models} for models in unique.values()))
        alike = {merge: [model for model in models if self._below(model) in common] for merge, models in unique.items()}
        return {merge: models for merge, models in alike.items() if not any(map(self._evaluated, models))}

    @cached_property
    def in_one_job(self) -> list[str]:
        """Folders below results/quantized whose seeds one job evaluates; as `Quantizations.in_one_job`."""
        anew, batched = self.quantizations.anew(), self._batched()
        seeded = self.quantizations.seeded().items() if self.layout.suite.batch_jobs else ()
        small = [(path, models) for path, models in seeded if models[0].id not in batched]
        return [path for path, models in small if path in anew or not any(map(self._evaluated, models))]

    def alone(self) -> list[str]:
        """Ids of the models that are evaluated in jobs of their own."""
        together = self.quantizations.stages.left_out(f"quantized/{path}/" for path in self.in_one_job)
        batched = self._batched()
        models = (model for model in self.layout.models.values() if model.kind != "expert" and model.id not in batched)
        return [model.id for model in models if f"{model.id.rpartition('/')[0]}/" not in together]

    def record_patterns(self, folder: str) -> list[str]:
        """What a job makes of a model: the records of all tasks in a suite of small jobs, else one."""
        small = self.layout.suite.batch_jobs
        return [f"{EVALUATIONS}/{folder}/{name}.json" for name in (self.record_stems() if small else ["{record}"])]

    def record_stems(self) -> list[str]:
        """Names of records without their ending, in the order of the tasks."""
        return [self.layout.record_name(task).removesuffix(".json") for task in self.layout.suite.tasks]

    def seed_record_patterns(self) -> list[str]:
        """The same of all seeds of a calibrated recipe."""
        seeds = self.layout.suite.seeds
        return [path for seed in seeds for path in self.record_patterns(f"quantized/{{quantized}}/seed-{seed}")]

    def merge_record_patterns(self) -> list[str]:
        """What a job makes that evaluates a merge and its quantized models, by the wildcard `merge`."""
        models = next(iter(self.by_merge.values()), [])
        return [path for model in models for path in self.record_patterns(self._below(model))]

    def model_files(self, wildcards: Any) -> list[str]:
        """The files of the models that a job evaluates; of quantized ones also the codes, as their weights must be on them."""
        return [
            file
            for model in self._models(wildcards)
            for file in (*self.layout.model_files(model.folder), *([f"{model.folder}/{PACKED}"] if model.quantizer else []))
        ]

    def data(self, wildcards: Any) -> dict[str, list[str]]:
        """What a job evaluates on: test splits, their manifests, and what the protocol reads of the base."""
        tasks = self._tasks(wildcards)
        return {
            "data": [self.layout.split_file(task, "test") for task in tasks],
            "manifests": [f"{DATA}/{task.data_id}/manifest.json" for task in tasks],
            **self.layout.protocol_inputs(tasks),
        }

    def compared(self, wildcards: Any) -> tuple[int, Sequence[Task]]:
        """How many models a job evaluates, and on which tasks."""
        return len(self._models(wildcards)), self._tasks(wildcards)

    def plan(self, wildcards: Any, output: Any) -> Plan:
        """What a job evaluates."""
        return self.plan_of(self._models(wildcards), self._tasks(wildcards))

    def plan_of(self, compared: Sequence[Model], tasks: Sequence[Task]) -> Plan:
        """The models, the tasks, and the record of each pair."""
        models = [
            {
                "id": model.id,
                "kind": model.kind,
                "folder": model.folder,
                "seed": model.seed,
                "records": [self.layout.record_file(model, task) for task in tasks],
            }
            for model in compared
        ]
        suite = self.layout.suite
        evaluated = [self.layout.scored(task, "test") for task in tasks]
        return {"family": suite.family, "models": models, "tasks": evaluated, "batch_size": suite.evaluation_batch}

    def code(self) -> str:
        """The protocol that scores."""
        return self.layout.code("evaluate_model", self.layout.protocol_code)

    def _models(self, wildcards: Any) -> list[Model]:
        if wildcards.get("model"):
            return [self.layout.models[wildcards.model]]
        if wildcards.get("merge"):
            return self.by_merge[wildcards.merge]
        return self.quantizations.made(wildcards)

    def _tasks(self, wildcards: Any) -> list[Task]:
        """The wildcard's task, the expert's own, or all of them where one job does all."""
        if wildcards.get("record"):
            return [self._by_record[wildcards.record]]
        return list(self.layout.suite.tasks)

    @cached_property
    def _by_record(self) -> dict[str, Task]:
        """Tasks by the wildcard `record`."""
        return dict(zip(self.record_stems(), self.layout.suite.tasks, strict=True))

    def _batched(self) -> set[str]:
        return self.quantizations.stages.left_out(model.id for models in self.by_merge.values() for model in models)

    def _evaluated(self, model: Model) -> bool:
        """Whether today's code has made a record of the model."""
        return any(self.quantizations.stages.made(record) == self.code() for record in self.layout.record_files(model))

    def _below(self, model: Model) -> str:
        """The model's id with the wildcard `merge` for its merge."""
        return model.id.replace(f"/{model.merge.id}", "/{merge}", 1)
