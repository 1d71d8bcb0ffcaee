"""Inputs, plans and code of every stage from data to quantization, as functions of a suite and a job's wildcards.

A *plan* is what a script is to do. Snakemake does not record it (its function asks for `output`, so it counts as derived), and
must not: what of it changes an artefact stands in the artefact's path. What else makes a job run again is its `code`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pmqbench.code_hash import code_hash
from pmqbench.merging.base import MERGERS
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.recipes import MergeRecipe, QuantRecipe
from pmqbench.tasks.definitions import Task
from pmqbench.workflow.layout import HEADS, MERGED, MODELS, QUANTIZED, Layout, Model

Plan = dict[str, Any]


@dataclass(frozen=True)
class Stages:
    """What the rules up to quantization are made of.

    Attributes:
        layout: of the suite.
        code_of: manifest or record -> hash of the code that made it, or None if there is none.
    """

    layout: Layout
    code_of: Callable[[str], str | None]

    # --- data, base, experts, heads

    @cached_property
    def data_tasks(self) -> dict[str, Task]:
        """Tasks by the folder of their data."""
        return {task.data_id: task for task in self.layout.suite.tasks}

    def data_plan(self, wildcards: Any, output: Any) -> Plan:
        """The task whose splits are written."""
        return {"task": self.data_tasks[wildcards.data_id].describe()}

    def data_code(self, wildcards: Any) -> str:
        """The data source, and the kind of task that writes its examples."""
        task = self.data_tasks[wildcards.data_id]
        return code_hash("prepare_task", type(task).__module__, type(task.data_source()).__module__)

    def base_inputs(self) -> list[str]:
        """Training data for a base that is trained here."""
        return self.layout.split_files("train") if self.layout.suite.base.trains else []

    def base_plan(self, wildcards: Any, output: Any) -> Plan:
        """The base's source, and the tasks that a base trained here sees."""
        suite = self.layout.suite
        tasks = [task.describe() for task in suite.tasks] if suite.base.trains else []
        return {"family": suite.family, "source": suite.sources["base"], "tasks": tasks, "folder": self.layout.base}

    def base_code(self) -> str:
        """The base's source."""
        return self.layout.code("fetch_base", self.layout.suite.base.code)

    def expert_inputs(self, wildcards: Any) -> dict[str, Any]:
        """The base, which every expert is compared with; data and head for an expert that is trained here."""
        layout, task = self.layout, self.layout.experts[wildcards.expert]
        trained = {"data": layout.split_file(task, "train"), "head": layout.head_file(task)}
        return {"base": layout.base_files()} | (trained if layout.suite.experts.trains else {})

    def expert_plan(self, wildcards: Any, output: Any) -> Plan:
        """The experts' source as far as it concerns this one: not the revisions of the others."""
        suite, task = self.layout.suite, self.layout.experts[wildcards.expert]
        source = dict(suite.sources["experts"])
        revisions = source.pop("revisions", {})
        if task.name in revisions:
            source["revision"] = revisions[task.name]
        folders = {"base": self.layout.base, "folder": f"{MODELS}/{wildcards.expert}"}
        return {"family": suite.family, "source": source, "task": task.describe(), **folders}

    def expert_code(self) -> str:
        """The experts' source."""
        return self.layout.code("fetch_expert", self.layout.suite.experts.code)

    @property
    def head_pattern(self) -> str:
        """A head's file, by the wildcard `head`."""
        return f"{HEADS}/{self.layout.suite.base_id}/{{head}}.safetensors"

    def head_names(self) -> list[str]:
        """The values of the wildcard `head`."""
        return [Path(file).stem for file in self.layout.head_files(self.layout.suite.tasks)]

    def head_outputs(self) -> list[str]:
        """What a job makes: all heads of a suite of small jobs, else one."""
        return self.layout.head_files(self.layout.suite.tasks) if self.layout.suite.batch_jobs else [self.head_pattern]

    def head_plan(self, wildcards: Any, output: Any) -> Plan:
        """The prompts of each head, in the order of the outputs."""
        suite = self.layout.suite
        made = {self.layout.head_file(task): task for task in suite.tasks}
        prompts = [made[str(path)].prompts for path in output]
        return {"family": suite.family, "base": self.layout.base, "prompts": prompts}

    def head_code(self) -> str:
        """The family that encodes prompts."""
        return self.layout.code("build_heads")

    # --- merging

    def merge_plan(self, wildcards: Any, output: Any) -> Plan:
        """The recipe, and where base and experts are."""
        layout = self.layout
        return {
            "family": layout.suite.family,
            "recipe": layout.merges[wildcards.merge].describe(),
            "base": layout.base,
            "experts": self._expert_folders(),
            "folder": f"{MERGED}/{wildcards.merge}",
        }

    def tuning_plan(self, wildcards: Any, output: Any) -> Plan:
        """A merge's plan, and how its candidates are compared."""
        tasks = [self.layout.scored(task, "validation") for task in self.layout.suite.tasks]
        batch_size = self.layout.suite.evaluation_batch
        return self.merge_plan(wildcards, output) | {"tasks": tasks, "batch_size": batch_size}

    def tuning_file(self, wildcards: Any) -> list[str]:
        """The chosen scaling of a merge whose scaling is chosen on the validation splits."""
        tuned = self.layout.merges[wildcards.merge].tune_scaling
        return [f"{MERGED}/{wildcards.merge}/tuning.json"] if tuned else []

    def merge_code(self, wildcards: Any) -> str:
        """The one method used."""
        return self._merge_code(self.layout.merges[wildcards.merge])

    def tuning_code(self, wildcards: Any) -> str:
        """The one method used, and the protocol that says which candidate is best."""
        method = self._merger(self.layout.merges[wildcards.merge])
        return self.layout.code("tune_scaling", method, self.layout.protocol_code)

    def _merge_code(self, merge: MergeRecipe) -> str:
        return self.layout.code("merge_experts", self._merger(merge))

    def _merger(self, merge: MergeRecipe) -> str:
        return MERGERS.get(merge.method_name).__module__

    # --- quantization

    def uncalibrated(self) -> list[str]:
        """<merge>/<quantizer> of the models that no data enters."""
        return [f"{m.id}/{q.id}" for m, q in self.layout.pairs if not q.method.calibrated]

    def in_one_job(self) -> list[str]:
        """<merge>/<quantizer> whose seeds one job calibrates: in a suite of small jobs, all that no seed stays as it is of.

        With some seeds there, made by today's code, each is a job of its own, so that a new one is computed alone.
        """
        return [path for path, models in self.calibrated() if self._anew(models)]

    def one_by_one(self) -> list[str]:
        """<merge>/<quantizer> whose seeds are a job each."""
        together = set(self.in_one_job())
        return [path for path, _ in self.calibrated() if path not in together]

    def merged_files(self, wildcards: Any) -> list[str]:
        """The merged model that is quantized."""
        return self.layout.model_files(f"{MERGED}/{self.recipes(wildcards.quantized)[0].id}")

    def seed_folders(self) -> list[str]:
        """Folders of all seeds, by the wildcard `quantized`."""
        return [f"{QUANTIZED}/{{quantized}}/seed-{seed}" for seed in self.layout.suite.seeds]

    def quantizer_plan(self, wildcards: Any, output: Any) -> Plan:
        """The recipe, and folder and seed of each model that the job makes."""
        merge, quantizer = self.recipes(wildcards.quantized)
        models = self.made(merge, quantizer, wildcards)
        suite = self.layout.suite
        calibration = {
            "experts": self._expert_folders(),
            "base": self.layout.base,
            "tasks": [task.describe() for task in suite.tasks],
            "batch_size": suite.calibration_batch,
            "strict": suite.strict,
        }
        return {
            "family": suite.family,
            "recipe": quantizer.describe(),
            "merged": f"{MERGED}/{merge.id}",
            "models": [{"folder": model.folder, "seed": model.seed} for model in models],
            **(calibration if quantizer.method.calibrated else {}),
        }

    def quantizer_code(self, quantizer: QuantRecipe) -> str:
        """The one method used; of calibrated ones also what makes batches."""
        method = QUANTIZERS.get(quantizer.method_name).__module__
        batches = self.layout.protocol.calibration_batches if quantizer.method.calibrated else None
        return self.layout.code("quantize_model", method, function=batches)

    def quantized_code(self, wildcards: Any) -> str:
        """`quantizer_code` of a job."""
        return self.quantizer_code(self.recipes(wildcards.quantized)[1])

    def calibrated(self) -> list[tuple[str, list[Model]]]:
        """<merge>/<quantizer> of the models that data enters, and the models, one a seed."""
        pairs = [(m, q) for m, q in self.layout.pairs if q.method.calibrated]
        return [(f"{m.id}/{q.id}", self.layout.quantized_models(m, q)) for m, q in pairs]

    def _anew(self, models: Sequence[Model]) -> bool:
        """Whether today's code has made none of a recipe's models, or not what they are made of, in a suite of small jobs."""
        layout = self.layout
        if not layout.suite.batch_jobs:
            return False
        merge, quantizer = models[0].merge, models[0].quantizer
        made_by = {layout.base: self.base_code(), f"{MERGED}/{merge.id}": self._merge_code(merge)}
        made_by |= {model.folder: self.expert_code() for model in layout.expert_models}
        stale = any(self.code_of(f"{folder}/manifest.json") != code for folder, code in made_by.items())
        code = self.quantizer_code(quantizer)
        return stale or not any(self.code_of(f"{model.folder}/manifest.json") == code for model in models)

    def recipes(self, path: str) -> tuple[MergeRecipe, QuantRecipe]:
        """The recipes of <merge>/<quantizer>."""
        merge, quantizer = path.split("/")
        return self.layout.merges[merge], self.layout.quantizers[quantizer]

    def made(self, merge: MergeRecipe, quantizer: QuantRecipe, wildcards: Any) -> list[Model]:
        """The pair's models that a job makes: the wildcard's seed, or all."""
        seed = wildcards.get("seed")
        return [m for m in self.layout.quantized_models(merge, quantizer) if seed is None or m.seed == int(seed)]

    def _expert_folders(self) -> dict[str, str]:
        return {task.name: f"{MODELS}/{expert}" for expert, task in self.layout.experts.items()}


def code_of(path: str) -> str | None:
    """Hash of the code that made a manifest or record; None if there is none that can be read."""
    try:
        made = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return made.get("code") or made.get("provenance", {}).get("code")
