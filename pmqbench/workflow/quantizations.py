"""Inputs, plans and code of quantization, the choice of its options, and refinement; as functions of a job's wildcards."""

from __future__ import annotations

from collections.abc import Sequence
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
    def in_one_job(self) -> list[str]:
        """<merge>/<quantizer> whose seeds one job calibrates: in a suite of small jobs, all that no seed stays as it is of.

        With some seeds there, made by today's code, each is a job of its own, so that a new one is computed alone.
        """
        return [path for path, models in self.calibrated().items() if self._anew(models)]

    def one_by_one(self) -> list[str]:
        """<merge>/<quantizer> whose seeds are a job each."""
        together = set(self.in_one_job)
        return [path for path in self.calibrated() if path not in together]

    def seed_folders(self) -> list[str]:
        """Folders of all seeds, by the wildcard `quantized`."""
        return [f"{QUANTIZED}/{{quantized}}/seed-{seed}" for seed in self.layout.suite.seeds]

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
        recipe = self._recipe(wildcards)
        return {
            "family": self.layout.suite.family,
            "recipe": recipe.describe(),
            "merged": self._merged(wildcards),
            "models": [{"folder": model.folder, "seed": model.seed} for model in self.made(wildcards)],
            **(self.stages.calibration if recipe.method.calibrated else {}),
        }

    def quantizer_code(self, quantizer: QuantRecipe) -> str:
        """The one method used; of calibrated ones also what makes batches."""
        method = QUANTIZERS.get(quantizer.method_name).__module__
        return self.layout.code("quantize_model", method, function=self.stages.batches_of(quantizer.method))

    def quantized_code(self, wildcards: Any) -> str:
        """`quantizer_code` of a job."""
        return self.quantizer_code(self._recipe(wildcards))

    # --- options chosen on the validation splits

    def tuned(self) -> list[str]:
        """<merge>/<quantizer> of the models some of whose options are chosen."""
        return [path for path, models in self.layout.quantized.items() if models[0].quantizer.tune]

    def tuning_file(self, wildcards: Any) -> list[str]:
        """The choice that a job follows, if there is one."""
        return [f"{QUANTIZED}/{wildcards.quantized}/tuning.json"] if self._recipe(wildcards).tune else []

    def tuning_plan(self, wildcards: Any, output: Any) -> Plan:
        """The recipe, the candidates, and how they are compared."""
        recipe = self._recipe(wildcards)
        candidates = {"candidates": candidates_of(recipe.tune)}
        plan = {"family": self.layout.suite.family, "recipe": recipe.describe(), "merged": self._merged(wildcards)}
        return plan | candidates | self.stages.calibration | self.stages.validation

    def tuning_code(self, wildcards: Any) -> str:
        """The one method used, and the protocol that makes batches and says which candidate is best."""
        method = QUANTIZERS.get(self._recipe(wildcards).method_name).__module__
        return self.layout.code("tune_quantizer", method, self.layout.protocol_code)

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
        return {*self.in_one_job, *(path for path, models in self.layout.refined.items() if not any(map(self._there, models)))}

    def _start(self, wildcards: Any) -> Model:
        """The start with the job's seed, or without one if no data entered it."""
        starts = self.layout.quantized[wildcards.quantized.rpartition("/")[0]]
        return next(model for model in starts if model.seed in (None, int(wildcards.seed)))

    def _recipe(self, wildcards: Any) -> QuantRecipe:
        return self.made(wildcards)[0].quantizer

    def _merged(self, wildcards: Any) -> str:
        return f"{MERGED}/{self.made(wildcards)[0].merge.id}"

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
