"""What jobs cost: time of a core, memory and disk by stage, from the sizes of model and data. No torch here.

Every cost is a formula of sizes whose constants were measured (`measured.json`, written by `python -m benchmarks.resources`):
a start (imports, reading), a part that goes with the columns of the linear layers (rounding is a loop over them), and floating-
point operations. docs/scaling.md has the formulas and how far they are from what jobs took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pmqbench.files import read_json
from pmqbench.merging.base import MERGERS
from pmqbench.recipes import MergeRecipe, QuantRecipe, RefineRecipe
from pmqbench.tasks.definitions import SPLITS, Task
from pmqbench.workflow.sizes import Sizes

MEASURED = read_json(Path(__file__).with_name("measured.json"))
MB = 1e6
LOOP = "epmq"
"""Whose constants hold for merges on samples: they run through the layer loop as it does, unrounded."""
TRAINING = 3
"""A training step's passes: one forward, two backward."""


@dataclass(frozen=True)
class Work:
    """What a job takes.

    Attributes:
        seconds: of one core, but for `flops`.
        flops: floating-point operations that go to the device, if there is one.
        memory_mb: peak resident memory, 10^6 bytes.
        disk_mb: what it writes.
        download_mb: what it fetches from the hub.
        on_device: whether it runs models.
        processes: that share it, each on a device of its own.
    """

    seconds: float
    flops: float = 0.0
    memory_mb: float = 0.0
    disk_mb: float = 0.0
    download_mb: float = 0.0
    on_device: bool = False
    processes: int = 1

    def __add__(self, other: Work) -> Work:
        """Both, one after the other in one process."""
        return Work(
            self.seconds + other.seconds,
            self.flops + other.flops,
            max(self.memory_mb, other.memory_mb),
            self.disk_mb + other.disk_mb,
            self.download_mb + other.download_mb,
            self.on_device or other.on_device,
            max(self.processes, other.processes),
        )

    @property
    def core_seconds(self) -> float:
        """On one core."""
        return self.seconds_on(1)

    def seconds_on(self, threads: int) -> float:
        """On cores of one machine, without a device: products spread over them, loops do not."""
        return self.seconds + self.flops / MEASURED["flops_per_second"] / threads

    @property
    def device_seconds(self) -> float:
        """With one; not measured: the device's speed is an assumption."""
        return self.seconds + self.flops / MEASURED["device_flops_per_second"]


@dataclass(frozen=True)
class Formulas:
    """What the jobs of a suite take, stage by stage."""

    sizes: Sizes

    # --- data, base, experts, heads

    def data(self, task: Task) -> Work:
        """Of a task's splits, image by image."""
        examples = sum(self.sizes.examples(task, split) for split in SPLITS)
        written = self.sizes.data_bytes(task) / MB
        seconds = written * MEASURED["prepare_seconds_per_mb"] + examples * MEASURED["prepare_seconds_per_example"]
        return _start("prepare") + Work(seconds, disk_mb=written)

    def base(self) -> Work:
        """Of the base, trained here or brought."""
        stored = self._model.base_bytes / MB
        if self._suite.base.trains:
            return _start("train_base", disk_mb=stored)
        return self._fetched(self._suite.base.downloads(""), stored)

    def expert(self, task: Task) -> Work:
        """Of a task's expert, as the base."""
        stored = self._model.model_bytes / MB
        if self._suite.experts.trains:
            return _start("train_expert", disk_mb=stored)
        compared = Work(0, memory_mb=_start("fetch").memory_mb + 2 * stored)
        return self._fetched(self._suite.experts.downloads(task.name), stored) + compared

    def heads(self, tasks: Sequence[Task]) -> Work:
        """Of zero-shot heads: every class name in every template, through the text tower."""
        sentences = sum(len(names) * len(templates) for names, templates in (task.prompts for task in tasks))
        beside = self._model.beside or self._model.parameters
        tower = 2 * 77 * max(0, beside - 49408 * 512)
        return _start("heads", device=True) + Work(
            0, sentences * tower, _start("heads").memory_mb + 2 * self._model.base_bytes / MB, on_device=True
        )

    # --- merging

    def merge(self, merge: MergeRecipe) -> Work:
        """Of a merge without samples, or of one with some."""
        model, stored = self._model, self._model.model_bytes / MB
        moved = len(self._suite.tasks) * self._width_factor * model.parameters
        first = merge.method.first() if merge.method.calibrated else merge.method
        work = Work(moved * _rate("merge_seconds_per_parameter", MERGERS.name_of(type(first))), disk_mb=stored)
        on_top = MEASURED["merge_seconds_per_parameter"]["calibrate_singular_values"]
        work += Work(moved * on_top if merge.calibrate_singular_values else 0)
        steps = getattr(merge.method, "steps", 0) if getattr(merge.method, "solver", "") == "adam" else 0
        work += Work(steps * 2 * model.target_flops / MEASURED["flops_per_second"])
        if not merge.method.calibrated:
            return _start("merge") + work + Work(0, memory_mb=_start("merge").memory_mb + 2 * stored + 40 * model.largest / MB)
        return _start("calibrate_merge", device=True) + work + self._solved(merge.method.solver(), LOOP, "calibrate_merge")

    def tuned_merge(self, merge: MergeRecipe) -> Work:
        """Of the choice of a merge's scaling."""
        method = merge.method
        merges = 1 if method.linear_in_scaling else 2 if method.affine_in_scaling else len(merge.tune_scaling)
        work = self.merge(merge)
        for _ in range(merges - 1):
            work += Work(work.seconds / merges)
        return _without_disk(work + self._scored(len(merge.tune_scaling), self._suite.tasks, "validation"))

    # --- quantization

    def quantize(self, recipes: Sequence[tuple[QuantRecipe, int]]) -> Work:
        """Of recipes in one job, each with the number of models (seeds) that it makes."""
        calibrated = any(recipe.method.calibrated for recipe, _ in recipes)
        work = _start("calibrate" if calibrated else "quantize", device=calibrated)
        for recipe, models in recipes:
            one = self._solved(recipe.method, recipe.method_name, "calibrate" if calibrated else "quantize")
            one += Work(0, disk_mb=self._model.model_bytes / MB * (1 + recipe.method.bits / 32))
            for _ in range(models):
                work += one
        return work

    def tuned_quantizer(self, recipes: Sequence[tuple[QuantRecipe, int]]) -> Work:
        """Of the choice of recipes' options; each with the number of candidates."""
        scored = sum(candidates for _, candidates in recipes)
        return _without_disk(self.quantize(recipes) + self._scored(scored, self._suite.tasks, "validation"))

    def refine(self, refinement: RefineRecipe) -> Work:
        """Of a refinement of one model: the experts once, then steps of training."""
        method, model = refinement.method, self._model
        samples = len(self._suite.tasks) * method.calibration_samples
        steps, batch = getattr(method, "steps", 0), getattr(method, "batch_size", 1)
        flops = model.forward_flops * (samples + 1.15 * TRAINING * steps * max(batch, len(self._suite.tasks)))
        taught = samples * (model.blocks * model.state_bytes / 2 + model.input_bytes)
        activations = batch * 64 * model.tokens * model.width * model.blocks
        processes = self._suite.processes_of(method)
        each = _start("refine").memory_mb + (26 * model.linear + 2 * model.model_bytes) / MB
        memory = processes * each + (taught + activations) / MB
        seconds = steps * len(model.layers) * MEASURED["step_seconds_per_layer"]
        work = Work(seconds, flops, memory, 1.2 * model.model_bytes / MB, on_device=True, processes=processes)
        return _start("refine", device=True) + work

    # --- evaluation and reports

    def evaluate(self, models: int, tasks: Sequence[Task]) -> Work:
        """Of models on tasks' test splits."""
        return _start("evaluate", device=True) + self._scored(models, tasks, "test")

    def report(self, records: int) -> Work:
        """Of a job over the records of a report."""
        start = _start("report")
        memory = start.memory_mb + records * MEASURED["report_mb_per_record"]
        return start + Work(records * MEASURED["report_seconds_per_record"], memory_mb=memory, disk_mb=3)

    def export(self) -> Work:
        """Of an exported model: its weights unpacked and packed again."""
        stored = self._model.model_bytes / MB
        start = _start("quantize")
        return start + Work(stored * MEASURED["read_seconds_per_mb"], memory_mb=start.memory_mb + 2 * stored, disk_mb=stored)

    # --- parts

    @property
    def _suite(self) -> Any:
        return self.sizes.suite

    @cached_property
    def _model(self) -> Any:
        return self.sizes.model

    @cached_property
    def _width_factor(self) -> float:
        """How much more a parameter costs than at the width where merges were measured: decompositions go with the cube."""
        return max(1.0, self._model.widest_input / MEASURED["merge_widest_input"])

    def _fetched(self, from_hub: bool, stored: float) -> Work:
        """A model that is brought: read twice, and downloaded first from the hub."""
        return _start("fetch") + Work(stored * MEASURED["fetch_seconds_per_mb"], disk_mb=stored, download_mb=stored * from_hub)

    def _solved(self, method: Any, name: str, start: str) -> Work:
        """One pass of the layer loop with a method."""
        model, tasks, sampling = self._model, len(self._suite.tasks), method.sampling()
        steps = getattr(method, "steps", 0)
        seconds = model.columns * _rate("column_seconds", name)
        seconds += steps * len(model.layers) * MEASURED["learned_step_seconds_per_layer"]
        flops = _rate("solves", name) * model.target_flops
        memory = _start(start).memory_mb * MB + 2.2 * model.model_bytes + 40 * model.widest_input**2
        if sampling is None:
            return Work(seconds, flops, memory / MB)
        samples = tasks * method.calibration_samples
        own = sampling.inputs != "student" or sampling.teacher_share > 0 or sampling.shift
        streams = 1 + (sampling.teacher is not None and own) + (sampling.block_outputs is not None)
        taught = tasks if sampling.teacher == "experts" else 0
        slow = MEASURED["slowness_of_solves"]
        flops += samples * (2.5 * streams * model.forward_flops + slow * (1 + own) * model.moment_flops)
        flops += slow * taught * model.target_flops
        flops += steps * getattr(method, "batch_size", 0) * TRAINING * model.forward_flops
        kept = samples * (model.input_bytes + 2 * streams * model.state_bytes)
        batch = min(self._suite.calibration_batch, method.calibration_samples)
        running = batch * 4 * model.tokens * (3 * model.widest_input + 6 * model.width)
        experts = (streams - 1 + 0.75 * (taught > 0)) * model.model_bytes
        processes = self._suite.processes_of(method)  # samples are shared out, all else each has
        whole = processes * (memory + running + experts) + kept
        return Work(seconds, flops, whole / MB, on_device=True, processes=processes)

    def _scored(self, models: int, tasks: Sequence[Task], split: str) -> Work:
        """Models on a split of tasks, one after the other; the splits of all tasks are mapped meanwhile."""
        model = self._model
        examples = sum(self.sizes.examples(task, split) for task in tasks)
        running = self._suite.evaluation_batch * 4 * model.tokens * 10 * model.width
        memory = 2.2 * model.model_bytes + examples * model.input_bytes + running
        return Work(
            models * (model.model_bytes / MB * MEASURED["read_seconds_per_mb"] + examples * MEASURED["seconds_per_example"]),
            models * examples * model.forward_flops,
            _start("evaluate").memory_mb + memory / MB,
            disk_mb=0.01 * models * len(tasks),
            on_device=True,
        )


def _start(stage: str, device: bool = False, disk_mb: float = 0.0) -> Work:
    """Imports, and what a stage does whatever the sizes."""
    return Work(MEASURED["start_seconds"][stage], memory_mb=MEASURED["start_mb"][stage], disk_mb=disk_mb, on_device=device)


def _rate(kind: str, method: str) -> float:
    """A method's constant; of one that was never measured the largest."""
    known = MEASURED[kind]
    return known.get(method, max(known.values()))


def _without_disk(work: Work) -> Work:
    return Work(work.seconds, work.flops, work.memory_mb, 1.0, work.download_mb, work.on_device)
