"""Recipes: what to merge, quantize and compare, as frozen dataclasses made from a checked config, with readable ids.

An id names an artefact's folder: a slug of the method's telling options and a hash of everything that affects the result.
Nothing here imports torch: Snakemake reads this module while it parses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from pmqbench.files import hash8
from pmqbench.tasks.definitions import Task

FULL_PRECISION_BITS = 32
SLUG_LENGTH = 60


def slug(method: str, options: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """`<method>-<option><value>...-<hash8>`: options that differ from the defaults, hash over `identity`."""
    words = [method] + [f"{key}{value}" for key, value in options.items() if isinstance(value, str | int | float)]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "", "-".join(words).replace("_", ""))[:SLUG_LENGTH].rstrip(".-")
    return f"{readable}-{hash8(identity)}"


def changed_options(method: Any) -> dict[str, Any]:
    """The options of a method (a dataclass instance) that differ from their defaults."""
    return {
        item.name: getattr(method, item.name)
        for item in fields(method)
        if item.default is MISSING or getattr(method, item.name) != item.default
    }


@dataclass(frozen=True)
class MergeRecipe:
    """A merge under a suite's display name.

    Attributes:
        name: display name.
        id: folder below results/merged.
        method_name: registered name of the method.
        method: the method with its options; `scaling` is replaced by the chosen candidate if `tune_scaling` is given.
        tune_scaling: candidates tried on the validation splits, or ().
        sources: what is merged: family, base, and the experts in order, since options may list a value for each.
        validation: of a tuned merge, what scalings are chosen by: each task's validation data, prompts and metric.
        calibrate_singular_values: options of the calibration on top of the method, {"floor"}; None for none.
    """

    name: str
    method_name: str
    method: Any
    tune_scaling: tuple[float, ...]
    sources: Mapping[str, Any] = field(repr=False)
    validation: Sequence[Any] = field(default=(), repr=False)
    calibrate_singular_values: Mapping[str, float] | None = None

    @cached_property
    def id(self) -> str:
        """Folder name: covers method, options, base and experts, and what a tuned scaling is chosen from and by."""
        options = {"tuned": ""} if self.tune_scaling else changed_options(self.method)
        if self.calibrate_singular_values:
            options |= {"svc": self.calibrate_singular_values["floor"]}
        return slug(self.method_name, options, self.describe())

    @property
    def chosen(self) -> tuple[str, ...]:
        """Options that are chosen on the validation splits."""
        return ("scaling",) if self.tune_scaling else ()

    def describe(self) -> dict[str, Any]:
        """Everything that affects the merged model, as JSON."""
        options = asdict(self.method)
        if self.tune_scaling:
            options["scaling"] = {"candidates": list(self.tune_scaling), "validation": list(self.validation)}
        calibration = self.calibrate_singular_values
        on_top = {"calibrate_singular_values": dict(calibration)} if calibration else {}
        return {"method": self.method_name, "options": options, **on_top, **self.sources}


@dataclass(frozen=True)
class RefineRecipe:
    """How quantized models are refined; `id` is the folder below the quantizer's.

    Attributes:
        method_name: registered name of the method.
        method: the method with its options.
        sources: the calibration data.
    """

    method_name: str
    method: Any
    sources: Mapping[str, Any] = field(repr=False)

    @cached_property
    def id(self) -> str:
        """Folder name: covers method, options and calibration data."""
        return slug(self.method_name, changed_options(self.method), self.describe())

    def describe(self) -> dict[str, Any]:
        """Everything but the start and the seed that affects the refined model, as JSON."""
        return {"method": self.method_name, "options": asdict(self.method), **self.sources}


@dataclass(frozen=True)
class QuantRecipe:
    """A quantizer at one bit width and group size under a suite's display name; `id` is the folder below the merge's.

    Attributes:
        name: display name.
        method_name: registered name of the method.
        method: the method with its options; those in `tune` are replaced by the chosen candidates.
        sources: the calibration data of a calibrated method.
        tune: option -> candidates tried on the validation splits, every combination.
        validation: of a tuned quantizer, what candidates are chosen by: each task's validation data, prompts and metric.
        refinement: what is done to the quantized model, or None.
    """

    name: str
    method_name: str
    method: Any
    sources: Mapping[str, Any] = field(repr=False)
    tune: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    validation: Sequence[Any] = field(default=(), repr=False)
    refinement: RefineRecipe | None = None

    @cached_property
    def id(self) -> str:
        """Folder name: covers method, options, calibration data, and what tuned options are chosen from and by."""
        method = self.method
        grid = f"{method.bits}bit" + (f"-g{method.group_size}" if method.group_size else "")
        options = {k: v for k, v in changed_options(method).items() if k not in ("bits", "group_size", *self.tune)}
        return slug(f"{self.method_name}-{grid}", options | dict.fromkeys(self.tune, "tuned"), self.describe())

    @property
    def chosen(self) -> tuple[str, ...]:
        """Options that are chosen on the validation splits."""
        return tuple(self.tune)

    @property
    def path(self) -> str:
        """Folder of the models below the merge's."""
        return f"{self.id}/{self.refinement.id}" if self.refinement else self.id

    @property
    def seeded(self) -> bool:
        """Whether there is one model for each calibration seed."""
        return self.method.calibrated or self.refinement is not None

    def describe(self) -> dict[str, Any]:
        """Everything but merge, seed and refinement that affects the quantized model, as JSON."""
        options = {name: value for name, value in asdict(self.method).items() if name not in self.tune}
        tuned = {"tune": {k: list(v) for k, v in self.tune.items()}, "validation": list(self.validation)} if self.tune else {}
        return {"method": self.method_name, "options": options, **tuned, **self.sources}


@dataclass(frozen=True)
class Point:
    """What an ablation has at one label of a series.

    Attributes:
        panel: merge and bit width, or the merge alone where widths are varied.
        series: display name of the quantizer that is varied.
        label: the value or variant.
        merge, quantizer: the recipes.
    """

    panel: str
    series: str
    label: str
    merge: MergeRecipe
    quantizer: QuantRecipe

    def describe(self) -> dict[str, Any]:
        """As JSON, with the names that the point's records have in reports."""
        method = self.quantizer.method
        names = {"merge": self.merge.name, "quantizer": self.quantizer.name}
        grid = {"bits": method.bits, "group_size": method.group_size}
        return {"panel": self.panel, "series": self.series, "label": self.label, **names, **grid}


@dataclass(frozen=True)
class Ablation:
    """A question and the recipes that answer it.

    Attributes:
        name: names the figure.
        question: what a reader wants to know.
        vary: key path of what is varied; None for named variants.
        labels: values or variants in order.
        baseline: the label that each series is compared with itself at; or
        against: the series that the others are compared with, label by label.
        points: every series of every panel, label by label.
    """

    name: str
    question: str
    vary: str | None
    labels: tuple[str, ...]
    baseline: str | None
    against: str | None
    points: tuple[Point, ...]

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        told = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "points"}
        return told | {"labels": list(self.labels), "points": [point.describe() for point in self.points]}


@dataclass(frozen=True)
class Target:
    """What one report compares: (merge, quantizer) pairs in config order.

    Attributes:
        report: folder below results/suites: the suite's name, or <suite>@<target> ("@" is in no suite's name).
        pairs: merge and quantizer recipes.
        ablations: questions that the report answers with these.
    """

    report: str
    pairs: tuple[tuple[MergeRecipe, QuantRecipe], ...]
    ablations: tuple[Ablation, ...] = ()

    @property
    def merges(self) -> tuple[MergeRecipe, ...]:
        """The merges, each once, in config order; equal recipes under two names are two."""
        return tuple({merge.name: merge for merge, _ in self.pairs}.values())


@dataclass(frozen=True)
class Suite:
    """A checked config.

    Attributes:
        name: of the suite.
        family: the model family's name.
        protocol: the name of the family's evaluation protocol.
        base, experts: the sources, built from their options.
        tasks: task definitions in order.
        seeds: calibration seeds.
        targets: "default", "full", ... -> what they compare.
        evaluation_batch, calibration_batch: examples per forward pass.
        processes: over how many a job on calibration samples spreads its tasks.
        batch_jobs: whether one job does all seeds and tasks of a recipe.
        job_threads: threads of a job on a cluster, where jobs are not batched.
        job_gpus: devices that a job which runs models asks for, where jobs are not batched.
        reference: display name of the quantizer that reports compare the others with.
        strict: whether an expert that differs from its published number stops the suite.
        sources: "base" and "experts" -> the sources' options as in the config.
        by_training_seed: training seed -> the suite as trained with that, with a part of the default target, as its default.
    """

    name: str
    family: str
    protocol: str
    base: Any
    experts: Any
    tasks: tuple[Task, ...]
    seeds: tuple[int, ...]
    targets: Mapping[str, Target]
    evaluation_batch: int
    calibration_batch: int
    processes: int
    batch_jobs: bool
    job_threads: int
    job_gpus: int
    reference: str
    strict: bool
    sources: Mapping[str, Mapping[str, Any]] = field(repr=False)
    by_training_seed: Mapping[int, Suite] = field(default_factory=dict, repr=False)

    @cached_property
    def base_id(self) -> str:
        """Folder of the base below results/experts."""
        return self.base.base_id(self)

    def processes_of(self, method: Any) -> int:
        """Over how many processes a job of a method spreads: one, unless the method can share its tasks out."""
        return self.processes if self.processes > 1 and method.parallel else 1

    def expert_id(self, task: Task) -> str:
        """Folder of a task's expert below results/experts."""
        return self.experts.expert_id(self, task)

    def evaluation(self, task: Task) -> dict[str, Any]:
        """Everything but the model that a task's record depends on, as JSON."""
        prompts = {"base": self.base_id, "prompts": task.prompts} if task.prompts else {}
        return {"task": task.name, "data": task.data_id, "metric": task.metric, "protocol": self.protocol, **prompts}
