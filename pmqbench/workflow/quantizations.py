"""Inputs, plans and code of quantization, the choice of its options, and refinement; as functions of a job's wildcards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pmqbench.quantization.base import QUANTIZERS
from pmqbench.recipes import QuantRecipe, RefineRecipe
from pmqbench.refinement.base import REFINERS
from pmqbench.targets import candidates_of
from pmqbench.workflow.layout import MERGED, QUANTIZED, STATES, Layout, Model
from pmqbench.workflow.stages import Plan, Stages


@dataclass(frozen=True)
class Batch:
    """Recipes of one method, and the merges that one job each does all of them for."""

    method: str
    recipes: tuple[QuantRecipe, ...]
    merges: tuple[str, ...]

    def paths(self, *merges: str) -> list[str]:
        """<merge>/<quantizer> of every recipe, for all merges or the given ones."""
        return [f"{merge}/{recipe.id}" for merge in merges or self.merges for recipe in self.recipes]


@dataclass(frozen=True)
class Quantizations:
    """What the rules of quantization and refinement are made of; `stages` make the merges."""

    stages: Stages

    @property
    def layout(self) -> Layout:
        """Of the suite."""
        return self.stages.layout

    # --- which models a job makes

    def uncalibrated(self) -> list[str]:
        """<merge>/<quantizer> of the models that no data enters."""
        return [path for path, models in self.layout.quantized.items() if models[0].seed is None]

    def calibrated(self) -> dict[str, list[Model]]:
        """<merge>/<quantizer> of the models that data enters, and the models, one a seed."""
        return {path: models for path, models in self.layout.quantized.items() if models[0].seed is not None}

    @cached_property
    def batches(self) -> list[Batch]:
        """Jobs of several recipes: in a suite of small jobs, a method's recipes of a merge of which nothing is there yet."""
        return self._batches(self._anew, lambda recipe: recipe.method.calibrated)

    @cached_property
    def in_one_job(self) -> list[str]:
        """<merge>/<quantizer> whose seeds one job calibrates: in a suite of small jobs, all that no seed stays as it is of.

        With some seeds there, made by today's code, each is a job of its own, so that a new one is computed alone.
        """
        batched = self.stages.left_out(path for batch in self.batches for path in batch.paths())
        return [path for path, models in self.calibrated().items() if path not in batched and self._anew(models)]

    def one_by_one(self) -> list[str]:
        """<merge>/<quantizer> whose seeds are a job each."""
        together = self.stages.left_out([*self.in_one_job, *(path for batch in self.batches for path in batch.paths())])
        return [path for path in self.calibrated() if path not in together]

    def seed_files(self, batch: Batch | None = None) -> list[str]:
        """Files of all seeds: of a recipe by the wildcard `quantized`, or of a batch by the wildcard `merge`."""
        paths = [f"{{merge}}/{recipe.id}" for recipe in batch.recipes] if batch else ["{quantized}"]
        folders = [f"{QUANTIZED}/{path}/seed-{seed}" for path in paths for seed in self.layout.suite.seeds]
        return [file for folder in folders for file in self.layout.quantized_files(folder)]

    def made(self, wildcards: Any) -> list[Model]:
        """The models that a job makes of <merge>/<quantizer>[/<refinement>]: the wildcard's seed, or all."""
        seed = wildcards.get("seed")
        models = (self.layout.quantized | self.layout.refined)[wildcards.quantized]
        return [model for model in models if seed is None or model.seed == int(seed)]

    # --- quantization

    def merged_files(self, wildcards: Any) -> list[str]:
        """The merged model that is quantized."""
        return self.layout.model_files(self._merged(wildcards))

    def quantizer_plan(self, wildcards: Any, output: Any) -> Plan:
        """The recipe, and folder and seed of each model that the job makes."""
        return self._plan(self._merged(wildcards), [self.made(wildcards)])

    def batch_plan(self, batch: Batch) -> Callable[[Any, Any], Plan]:
        """`quantizer_plan` of a batch."""
        return lambda wildcards, output: self._plan(
            f"{MERGED}/{wildcards.merge}", [self.layout.quantized[path] for path in batch.paths(wildcards.merge)]
        )

    def quantizer_code(self, quantizer: QuantRecipe) -> str:
        """The one method used; of calibrated ones also what makes batches."""
        method = QUANTIZERS.get(quantizer.method_name).__module__
        return self.layout.code("quantize_model", method, function=self.stages.batches_of(quantizer.method))

    def quantized_code(self, wildcards: Any) -> str:
        """`quantizer_code` of a job."""
        return self.quantizer_code(self._recipe(wildcards))

    # --- options chosen on the validation splits

    def tuned(self) -> list[str]:
        """<merge>/<quantizer> of the models some of whose options are chosen, each in a job of its own."""
        batched = self.stages.left_out(path for batch in self.tuning_batches for path in batch.paths())
        return [path for path, models in self.layout.quantized.items() if models[0].quantizer.tune and path not in batched]

    @cached_property
    def tuning_batches(self) -> list[Batch]:
        """Choices that one job makes: in a suite of small jobs, all of a method and merge that none is there of."""
        return self._batches(lambda models: not self._chosen(models), lambda recipe: bool(recipe.tune))

    def choices(self, batch: Batch) -> list[str]:
        """Files of a batch's choices by the wildcard `merge`."""
        return [f"{QUANTIZED}/{{merge}}/{recipe.id}/tuning.json" for recipe in batch.recipes]

    def tuning_files(self, wildcards: Any) -> list[str]:
        """The choice that a job follows, if there is one."""
        return _choices(self.made(wildcards))

    def batch_tuning_files(self, batch: Batch) -> Callable[[Any], list[str]]:
        """`tuning_files` of a batch."""
        return lambda wildcards: [
            file for path in batch.paths(wildcards.merge) for file in _choices(self.layout.quantized[path])
        ]

    def tuning_plan(self, wildcards: Any, output: Any) -> Plan:
        """The recipe, the candidates, and how they are compared."""
        return self._tuning_plan(self._merged(wildcards), [self._recipe(wildcards)])

    def batch_tuning_plan(self, batch: Batch) -> Callable[[Any, Any], Plan]:
        """`tuning_plan` of a batch."""
        return lambda wildcards, output: self._tuning_plan(f"{MERGED}/{wildcards.merge}", batch.recipes)

    def tuning_code(self, wildcards: Any) -> str:
        """The one method used, and the protocol that makes batches and says which candidate is best."""
        return self.choice_code(self._recipe(wildcards))

    def choice_code(self, quantizer: QuantRecipe) -> str:
        """`tuning_code` of a recipe."""
        return self.layout.code("tune_quantizer", QUANTIZERS.get(quantizer.method_name).__module__, self.layout.protocol_code)

    # --- refinement

    def refined(self) -> list[str]:
        """<merge>/<quantizer>/<refinement> of all refined models."""
        return list(self.layout.refined)

    def start_files(self, wildcards: Any) -> list[str]:
        """The quantized model that is refined."""
        return self.layout.quantized_files(self._start(wildcards).folder)

    def refine_plan(self, wildcards: Any, output: Any) -> Plan:
        """The recipe, the start, and where to."""
        (model,) = self.made(wildcards)
        return {
            "family": self.layout.suite.family,
            "recipe": model.refinement.describe(),
            "start": self._start(wildcards).folder,
            "folder": model.folder,
            "state": f"{STATES}/{wildcards.quantized}/seed-{model.seed}.pt",
            "seed": model.seed,
            "processes": self.layout.suite.processes_of(model.refinement.method),
            **self.stages.calibration,
        }

    def refine_code(self, wildcards: Any) -> str:
        """The one method used, and what makes batches."""
        return self.refiner_code(self.made(wildcards)[0].refinement)

    def refiner_code(self, refinement: RefineRecipe) -> str:
        """`refine_code` of a recipe."""
        method = REFINERS.get(refinement.method_name).__module__
        return self.layout.code("refine_model", method, function=self.layout.protocol.calibration_batches)

    # --- of all that has seeds

    def seeded(self) -> dict[str, list[Model]]:
        """Below results/quantized, the folder of every model that is compared and has a seed -> the models of all seeds."""
        return self.calibrated() | self.layout.refined

    def anew(self) -> set[str]:
        """Those of `seeded` no seed of which stays as it is."""
        batched = (path for batch in self.batches for path in batch.paths())
        return {
            *batched,
            *self.in_one_job,
            *(path for path, models in self.layout.refined.items() if not any(map(self._there, models))),
        }

    def _start(self, wildcards: Any) -> Model:
        """The start with the job's seed, or without one if no data entered it."""
        starts = self.layout.quantized[wildcards.quantized.rpartition("/")[0]]
        return next(model for model in starts if model.seed in (None, int(wildcards.seed)))

    def _recipe(self, wildcards: Any) -> QuantRecipe:
        return self.made(wildcards)[0].quantizer

    def _merged(self, wildcards: Any) -> str:
        return f"{MERGED}/{self.made(wildcards)[0].merge.id}"

    def _plan(self, merged: str, recipes: Sequence[Sequence[Model]]) -> Plan:
        calibrated = any(models[0].quantizer.method.calibrated for models in recipes)
        made = [
            {
                "recipe": models[0].quantizer.describe(),
                "tuning": next(iter(_choices(models)), None),
                "models": [{"folder": model.folder, "seed": model.seed} for model in models],
            }
            for models in recipes
        ]
        known = self.stages.calibration if calibrated else {}
        processes = self.layout.suite.processes_of(recipes[0][0].quantizer.method)  # recipes of a job are of one method
        return {"family": self.layout.suite.family, "merged": merged, "recipes": made, "processes": processes, **known}

    def _tuning_plan(self, merged: str, recipes: Sequence[QuantRecipe]) -> Plan:
        candidates = [{"recipe": recipe.describe(), "candidates": candidates_of(recipe.tune)} for recipe in recipes]
        processes = self.layout.suite.processes_of(recipes[0].method)
        plan = {"family": self.layout.suite.family, "merged": merged, "recipes": candidates, "processes": processes}
        return plan | self.stages.calibration | self.stages.validation

    def _batches(self, anew: Callable[[list[Model]], bool], wanted: Callable[[QuantRecipe], bool]) -> list[Batch]:
        """A batch for each method with two or more wanted recipes that follow every merge of the default target."""
        if not self.layout.suite.batch_jobs:
            return []
        default = self.layout.suite.targets["default"]
        merges = [merge.id for merge in default.merges]
        recipes = {recipe.id: recipe for _, recipe in default.pairs if wanted(recipe)}
        by_method: dict[str, list[QuantRecipe]] = {}
        for recipe in recipes.values():
            if {merge.id for merge, other in default.pairs if other.id == recipe.id} >= set(merges):
                by_method.setdefault(recipe.method_name, []).append(recipe)
        batches = []
        for method, alike in by_method.items():
            new = [merge for merge in merges if all(anew(self.layout.quantized[f"{merge}/{r.id}"]) for r in alike)]
            batches += [Batch(method, tuple(alike), tuple(dict.fromkeys(new)))] if len(alike) > 1 and new else []
        return batches

    def _chosen(self, models: Sequence[Model]) -> bool:
        """Whether today's code has made a recipe's choice."""
        return self.stages.made(_choices(models)[0]) == self.choice_code(models[0].quantizer)

    def _anew(self, models: Sequence[Model]) -> bool:
        """Whether today's code has made none of a recipe's models, or not what they are made of, in a suite of small jobs."""
        if not self.layout.suite.batch_jobs:
            return False
        merge, stages = models[0].merge, self.stages
        stale = stages.stale_experts or stages.made_by(f"{MERGED}/{merge.id}") != stages.code_of_merge(merge)
        return stale or not any(map(self._there, models))

    def _there(self, model: Model) -> bool:
        """Whether today's code has made the model."""
        code = self.refiner_code(model.refinement) if model.refinement else self.quantizer_code(model.quantizer)
        return self.stages.made_by(model.folder) == code


def _choices(models: Sequence[Model]) -> list[str]:
    """The file of the choice that a recipe's models follow, if there is one."""
    merge, quantizer = models[0].merge, models[0].quantizer
    return [f"{QUANTIZED}/{merge.id}/{quantizer.id}/tuning.json"] if quantizer.tune else []
