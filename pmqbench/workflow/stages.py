"""Inputs, plans and code of every stage from data to merging, as functions of a suite and a job's wildcards.

A *plan* is what a script is to do. Snakemake does not record it (its function asks for `output`, so it counts as derived), and
must not: what of it changes an artefact stands in the artefact's path. What else makes a job run again is its `code`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pmqbench.code_hash import code_hash
from pmqbench.merging.base import MERGERS
from pmqbench.recipes import MergeRecipe
from pmqbench.tasks.definitions import Task
from pmqbench.workflow.layout import HEADS, MERGED, MODELS, Layout

Plan = dict[str, Any]


@dataclass(frozen=True)
class Stages:
    """What the rules up to merging are made of.

    Attributes:
        layout: of the suite.
        code_of: manifest or record -> hash of the code that made it, or None if there is none.
        in_job: whether this process was started to run a job, as on a cluster. The run that started it has chosen which of
            several rules makes a file, by what was there at its start; that has changed since, so here each rule offers all
            that it can make, and `--allowed-rules` tells which one is meant.
    """

    layout: Layout
    code_of: Callable[[str], str | None]
    in_job: bool = False

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

    def base_manifests(self) -> list[str]:
        """What these are compared with, which a remote storage does not bring by itself."""
        return self.layout.data_manifests() if self.layout.suite.base.trains else []

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
        manifest = layout.data_files(task.data_id)["manifest"]
        trained = {"data": layout.split_file(task, "train"), "manifest": manifest, "head": layout.head_file(task)}
        return {"base": layout.base_files()} | (trained if layout.suite.experts.trains else {})

    def expert_plan(self, wildcards: Any, output: Any) -> Plan:
        """The experts' source as far as it concerns this one: not the places or revisions of the others."""
        suite, task = self.layout.suite, self.layout.experts[wildcards.expert]
        source = dict(suite.sources["experts"])
        source = source.get("of", {}).get(task.name, source)
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
        """The prompts of each head, in the order of the outputs: the wildcard's, or those of all tasks."""
        suite = self.layout.suite
        prompts = dict(zip(self.head_names(), (task.prompts for task in suite.tasks), strict=True))
        made = [wildcards.head] if wildcards.get("head") else prompts
        return {"family": suite.family, "base": self.layout.base, "prompts": [prompts[name] for name in made]}

    def head_code(self) -> str:
        """The family that encodes prompts."""
        return self.layout.code("build_heads")

    # --- merging

    def merges(self, calibrated: bool) -> list[str]:
        """The merges that see samples, or those that see none."""
        return [name for name, merge in self.layout.merges.items() if merge.method.calibrated is calibrated]

    def merge_plan(self, wildcards: Any, output: Any) -> Plan:
        """The recipe, and where base, experts and, for a merge that sees some, samples are."""
        layout, merge = self.layout, self.layout.merges[wildcards.merge]
        return {
            "family": layout.suite.family,
            "recipe": merge.describe(),
            "base": layout.base,
            "experts": self.expert_folders,
            "folder": f"{MERGED}/{wildcards.merge}",
            "processes": layout.suite.processes_of(merge.method),
            **(self.calibration if merge.method.calibrated else {}),
        }

    def tuning_plan(self, wildcards: Any, output: Any) -> Plan:
        """A merge's plan, and how its candidates are compared."""
        return self.merge_plan(wildcards, output) | self.validation

    def tuning_file(self, wildcards: Any) -> list[str]:
        """The chosen scaling of a merge whose scaling is chosen on the validation splits."""
        tuned = self.layout.merges[wildcards.merge].tune_scaling
        return [f"{MERGED}/{wildcards.merge}/tuning.json"] if tuned else []

    def merge_code(self, wildcards: Any) -> str:
        """The one method used; of calibrated ones also what makes batches."""
        return self.code_of_merge(self.layout.merges[wildcards.merge])

    def tuning_code(self, wildcards: Any) -> str:
        """The one method used, and the protocol that says which candidate is best."""
        method = self._merger(self.layout.merges[wildcards.merge])
        return self.layout.code("tune_scaling", method, self.layout.protocol_code)

    def code_of_merge(self, merge: MergeRecipe) -> str:
        """`merge_code` of a recipe."""
        script = "calibrate_merge" if merge.method.calibrated else "merge_experts"
        return self.layout.code(script, self._merger(merge), function=self.batches_of(merge.method))

    def batches_of(self, method: Any) -> Callable[..., object] | None:
        """The protocol's function that makes batches, if a method is calibrated."""
        return self.layout.protocol.calibration_batches if method.calibrated else None

    def _merger(self, merge: MergeRecipe) -> str:
        return MERGERS.get(merge.method_name).__module__

    # --- what is there already, and who makes the rest

    def left_out(self, paths: Iterable[str]) -> set[str]:
        """What a rule leaves to others that make it too: in a job's process nothing."""
        return set() if self.in_job else set(paths)

    @cached_property
    def stale_experts(self) -> bool:
        """Whether today's code has not made the base and all experts."""
        experts = (model.folder for model in self.layout.expert_models)
        return self.made_by(self.layout.base) != self.base_code() or any(
            self.made_by(folder) != self.expert_code() for folder in experts
        )

    def made_by(self, folder: str) -> str | None:
        """Hash of the code that made the model in a folder."""
        return self.made(f"{folder}/manifest.json")

    def made(self, path: str) -> str | None:
        """Hash of the code that made a file, if one is there to be kept: in a job's process none is."""
        return None if self.in_job else self.code_of(path)

    @cached_property
    def expert_folders(self) -> dict[str, str]:
        """Task -> its expert's folder."""
        return {task.name: f"{MODELS}/{expert}" for expert, task in self.layout.experts.items()}

    @cached_property
    def calibration(self) -> Plan:
        """What a job needs to run experts and base on calibration samples."""
        suite = self.layout.suite
        return {
            "experts": self.expert_folders,
            "base": self.layout.base,
            "tasks": [task.describe() for task in suite.tasks],
            "splits": self.layout.split_files("train"),
            "batch_size": suite.calibration_batch,
            "strict": suite.strict,
        }

    @cached_property
    def validation(self) -> Plan:
        """How candidates are compared."""
        tasks = [self.layout.scored(task, "validation") for task in self.layout.suite.tasks]
        return {"validation": tasks, "evaluation_batch": self.layout.suite.evaluation_batch}


def code_of(path: str) -> str | None:
    """Hash of the code that made a manifest or record; None if there is none that can be read."""
    try:
        made = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return made.get("code") or made.get("provenance", {}).get("code")
