"""Where a suite's artefacts are, and which models it compares. Rules, scripts and reports take every path from here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pmqbench.code_hash import code_hash
from pmqbench.evaluation.base import PROTOCOLS
from pmqbench.families.base import FAMILIES
from pmqbench.files import hash8
from pmqbench.recipes import FULL_PRECISION_BITS, MergeRecipe, QuantRecipe, RefineRecipe, Suite, Target
from pmqbench.tasks.definitions import SPLITS, Task

DATA = "results/data"
MODELS = "results/experts"
HEADS = "results/heads"
MERGED = "results/merged"
QUANTIZED = "results/quantized"
STATES = "results/states"  # of unfinished refinements
EXPORTED = "results/exported"
EVALUATIONS = "results/evaluations"
REPORTS = "results/suites"


@dataclass(frozen=True)
class Model:
    """A model that a suite compares.

    Attributes:
        id: the folder of its records, below results/evaluations.
        kind: as in `records.KINDS`.
        folder: where its files are.
        tasks: names of the tasks it is evaluated on.
        merge, quantizer: None where there is none.
        seed: calibration seed; None where none enters.
        refinement: what was done after quantization.
    """

    id: str
    kind: str
    folder: str
    tasks: tuple[str, ...]
    merge: MergeRecipe | None = None
    quantizer: QuantRecipe | None = None
    seed: int | None = None
    refinement: RefineRecipe | None = None

    @property
    def names(self) -> dict[str, Any]:
        """The suite's names of its recipes, as reports show them."""
        method = self.quantizer and self.quantizer.method
        return {
            "merge": self.merge and self.merge.name,
            "quantizer": self.quantizer and self.quantizer.name,
            "bits": method.bits if method else FULL_PRECISION_BITS,
            "group_size": method.group_size if method else None,
            "chosen": ", ".join(
                [*(self.merge.chosen if self.merge else ()), *(self.quantizer.chosen if self.quantizer else ())]
            ),
        }


@dataclass(frozen=True)
class Layout:
    """Paths and models of a suite."""

    suite: Suite

    # --- what the suite is made of

    @cached_property
    def family(self) -> Any:
        """The suite's model family."""
        return FAMILIES.get(self.suite.family)()

    @cached_property
    def protocol(self) -> Any:
        """The family's evaluation protocol."""
        return PROTOCOLS.get(self.suite.protocol)()

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Tasks by name."""
        return {task.name: task for task in self.suite.tasks}

    @cached_property
    def experts(self) -> dict[str, Task]:
        """Expert id -> its task."""
        return {self.suite.expert_id(task): task for task in self.suite.tasks}

    @cached_property
    def targets(self) -> dict[str, Target]:
        """Report folder's name -> target."""
        return {target.report: target for target in self.suite.targets.values()}

    @cached_property
    def pairs(self) -> list[tuple[MergeRecipe, QuantRecipe]]:
        """The distinct pairs of recipes of all targets; of equal recipes under two names the first."""
        unique: dict[tuple[str, str], tuple[MergeRecipe, QuantRecipe]] = {}
        for target in self.targets.values():
            for merge, quantizer in target.pairs:
                unique.setdefault((merge.id, quantizer.path), (merge, quantizer))
        return list(unique.values())

    @cached_property
    def merges(self) -> dict[str, MergeRecipe]:
        """Merge recipes by id."""
        return {merge.id: merge for merge, _ in self.pairs}

    @cached_property
    def quantized(self) -> dict[str, list[Model]]:
        """<merge>/<quantizer> -> its models, one or one a calibration seed; also of those that are only to be refined."""
        paths = {f"{merge.id}/{quantizer.id}": (merge, quantizer) for merge, quantizer in self.pairs}
        return {path: self.quantized_models(*pair) for path, pair in paths.items()}

    @cached_property
    def refined(self) -> dict[str, list[Model]]:
        """<merge>/<quantizer>/<refinement> -> its models, one a calibration seed."""
        refined = [(merge, quantizer) for merge, quantizer in self.pairs if quantizer.refinement]
        return {f"{merge.id}/{quantizer.path}": self.final_models(merge, quantizer) for merge, quantizer in refined}

    # --- files

    def split_file(self, task: Task, split: str) -> str:
        """A task's examples."""
        return f"{DATA}/{task.data_id}/{split}{task.suffix}"

    def split_files(self, split: str) -> list[str]:
        """One split of every task, in the suite's order."""
        return [self.split_file(task, split) for task in self.suite.tasks]

    def data_files(self, data_id: str) -> dict[str, str]:
        """All splits of a data set, and its manifest."""
        folder, suffix = f"{DATA}/{data_id}", self.protocol.task_class.suffix
        return {split: f"{folder}/{split}{suffix}" for split in SPLITS} | {"manifest": f"{folder}/manifest.json"}

    def data_manifests(self) -> list[str]:
        """The manifest of every task's data."""
        return [f"{DATA}/{task.data_id}/manifest.json" for task in self.suite.tasks]

    def model_files(self, folder: str) -> list[str]:
        """All files of a model that is not quantized."""
        return [f"{folder}/{name}" for name in (*self.family.model_files, "manifest.json")]

    def quantized_files(self, folder: str) -> list[str]:
        """All files of a quantized model."""
        return [*self.model_files(folder), f"{folder}/packed.safetensors", f"{folder}/layers.json"]

    def refined_files(self, folder: str) -> list[str]:
        """All files of a refined model."""
        return [*self.quantized_files(folder), f"{folder}/curve.json"]

    def exported_files(self, folder: str) -> list[str]:
        """All files of an exported model."""
        names = ("config.json", "README.md", "model.safetensors", *self.family.exported_files)
        return [f"{folder}/{name}" for name in names]

    @property
    def base(self) -> str:
        """The base's folder."""
        return f"{MODELS}/{self.suite.base_id}"

    def base_files(self) -> list[str]:
        """The base, with what its protocol reads of it."""
        return list(dict.fromkeys([*self.model_files(self.base), *self.protocol_files()]))

    def protocol_files(self) -> list[str]:
        """Those files of the base's folder that its protocol reads."""
        return [f"{self.base}/{name}" for name in self.protocol.base_files]

    def expert_files(self) -> list[str]:
        """All experts, in the order of the tasks."""
        return [file for expert in self.experts for file in self.model_files(f"{MODELS}/{expert}")]

    def head_file(self, task: Task) -> str:
        """A task's zero-shot head."""
        return self._head_files[task.name]

    def head_files(self, tasks: Iterable[Task]) -> list[str]:
        """The heads of tasks, if the protocol has any."""
        return [self.head_file(task) for task in tasks] if self.protocol.uses_heads else []

    def protocol_inputs(self, tasks: Iterable[Task]) -> dict[str, list[str]]:
        """What the protocol reads beside a split."""
        return {"heads": self.head_files(tasks), "base_files": self.protocol_files()}

    def scored(self, task: Task, split: str) -> dict[str, Any]:
        """What a script needs to score models on a split of a task."""
        return {
            "name": task.name,
            "metric": task.metric,
            "split": self.split_file(task, split),
            "manifest": f"{DATA}/{task.data_id}/manifest.json",
            "data_id": task.data_id,
            "base": self.base,
            "head": self.head_file(task) if self.protocol.uses_heads else None,
        }

    def record_name(self, task: Task) -> str:
        """File of a model's record on a task, below the model's folder: covers data, prompts, metric and protocol."""
        return self._record_names[task.name]

    def record_file(self, model: Model, task: Task) -> str:
        """A model's record on a task."""
        return f"{EVALUATIONS}/{model.id}/{self.record_name(task)}"

    def record_files(self, model: Model) -> list[str]:
        """A model's records."""
        return [self.record_file(model, self.tasks[task]) for task in model.tasks]

    # Hashes of hundreds of class names, which every job of a large suite asks for.

    @cached_property
    def _head_files(self) -> dict[str, str]:
        folder = f"{HEADS}/{self.suite.base_id}"
        return {name: f"{folder}/{name}-{hash8(task.prompts)}.safetensors" for name, task in self.tasks.items()}

    @cached_property
    def _record_names(self) -> dict[str, str]:
        return {name: f"{name}-{hash8(self.suite.evaluation(task))}.json" for name, task in self.tasks.items()}

    # --- models

    @cached_property
    def base_model(self) -> Model:
        """The pre-trained base."""
        return Model(f"base/{self.suite.base_id}", "base", self.base, tuple(self.tasks))

    @cached_property
    def expert_models(self) -> list[Model]:
        """The experts, each on its own task."""
        return [Model(f"experts/{name}", "expert", f"{MODELS}/{name}", (task.name,)) for name, task in self.experts.items()]

    def merged_model(self, merge: MergeRecipe) -> Model:
        """A merge at full precision."""
        return Model(f"merged/{merge.id}", "merged", f"{MERGED}/{merge.id}", tuple(self.tasks), merge)

    def quantized_models(self, merge: MergeRecipe, quantizer: QuantRecipe) -> list[Model]:
        """A quantized merge before any refinement: one model, or one a calibration seed."""
        seeds = self.suite.seeds if quantizer.method.calibrated else (None,)
        return [self._model(f"{merge.id}/{quantizer.id}", merge, quantizer, seed) for seed in seeds]

    def final_models(self, merge: MergeRecipe, quantizer: QuantRecipe) -> list[Model]:
        """The models that are compared: refined ones, one a calibration seed, where the recipe has a refinement."""
        if quantizer.refinement is None:
            return self.quantized_models(merge, quantizer)
        path = f"{merge.id}/{quantizer.path}"
        models = (self._model(path, merge, quantizer, seed) for seed in self.suite.seeds)
        return [replace(model, refinement=quantizer.refinement) for model in models]

    def _model(self, path: str, merge: MergeRecipe, quantizer: QuantRecipe, seed: int | None) -> Model:
        path = path if seed is None else f"{path}/seed-{seed}"
        return Model(f"quantized/{path}", "quantized", f"{QUANTIZED}/{path}", tuple(self.tasks), merge, quantizer, seed)

    def models_of(self, target: Target) -> Iterator[Model]:
        """All that a target compares, references first."""
        yield self.base_model
        yield from self.expert_models
        yield from map(self.merged_model, target.merges)
        for merge, quantizer in target.pairs:
            yield from self.final_models(merge, quantizer)

    @cached_property
    def models(self) -> dict[str, Model]:
        """All models of all targets by id."""
        return {model.id: model for target in self.targets.values() for model in self.models_of(target)}

    # --- code

    @property
    def family_code(self) -> str:
        """Module of the family."""
        return type(self.family).__module__

    @property
    def protocol_code(self) -> str:
        """Module of the protocol."""
        return type(self.protocol).__module__

    def code(self, script: str, *modules: str, function: Callable[..., object] | None = None) -> str:
        """Hash of the code of a stage that runs models of the family."""
        return code_hash(script, self.family_code, *modules, function=function)


def any_of(names: Iterable[str]) -> str:
    """Regular expression that matches one of the names, or nothing at all if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"
