"""The one layer loop: block by block, group by group, collect inputs' moments, let the method solve, put the result in place.

What a method needs collected is its `Sampling`; what it does with it are its hooks. The model is known by its blocks only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pmqbench.checkpoints import check_finite
from pmqbench.errors import DataError
from pmqbench.families.base import Block, BlockModel, Group
from pmqbench.quantization.base import Quantizer, Sampling, check_group_size
from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.layer_record import layer_records
from pmqbench.quantization.moments import Pool, TaskMoments, Teacher
from pmqbench.quantization.problem import Expert, Problem, Solution, stack
from pmqbench.quantization.streams import (
    Stream,
    ahead,
    expert_blocks,
    expert_stream,
    first_samples,
    merged_stream,
    sample_count,
)

__all__ = ["Expert", "QuantizedModel", "quantize_model"]
log = logging.getLogger(__name__)

KEPT_BYTES = 4e9  # block inputs up to this size may be doubled within a block; larger ones cost some recomputation instead


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized model.

    Attributes:
        tensors: every tensor of the model by canonical name, on the CPU: dequantized weights, folded norms, fitted biases.
        codes: by layer; `codes[layer].weight()` is `tensors[layer + ".weight"]` bit for bit. Empty at 16 bits.
        records: one JSON-able record a layer, in forward order.
    """

    tensors: dict[str, Tensor]
    codes: dict[str, LayerCodes]
    records: list[dict[str, Any]]


@dataclass
class Run:
    """A quantization in progress. Streams are None where the method needs none; they stand before `stages` of a block.

    The moments are of the inputs that `source` has: the student itself, or the experts (`Sampling.inputs`).
    """

    model: BlockModel
    method: Quantizer
    sampling: Sampling | None
    experts: Mapping[str, Expert]
    base: Expert | None = None
    student: Stream | None = None
    source: Stream | None = None
    teacher: Stream | None = None
    probe: Stream | None = None
    stages: range = range(1)
    codes: dict[str, LayerCodes] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)

    def enter(self, task: str, block: Block) -> None:
        """Readies source and teacher for the task's states."""
        for stream in (self.source, self.teacher):
            if stream is not None:
                stream.enter(task, block)

    def inputs(self, stream: Stream, task: str, index: int, block: Block, layers: Sequence[str]) -> dict[str, Tensor]:
        """The inputs of `layers`, which the current stages run, for one batch of a stream; a teacher's after `enter`."""
        return stream.inputs(block, self.stages, stream.states[task][index], layers)

    def advance(self, block: Block) -> None:
        """Runs every stream through the current stages, unless nobody reads what comes out."""
        if block is self.model.blocks[-1] and self.stages.stop == block.stages:
            return
        for stream in (self.student or self.source, self.teacher, self.probe):
            if stream is not None:
                stream.advance(block, self.stages)


def quantize_model(
    model: BlockModel,
    method: Quantizer,
    calibration: Mapping[str, Sequence[Any]],
    experts: Mapping[str, Expert],
    progress: bool = True,
    base: Expert | None = None,
) -> QuantizedModel:
    """Quantizes the linear layers of `model`'s blocks, in place: afterwards it is the quantized model.

    Args:
        model: the merged model, float32, on the device to work on. Its state_dict names are the canonical names.
        method: an instance of a class in QUANTIZERS.
        calibration: task -> input batches as `model.embed` takes them; not looked at by uncalibrated methods.
        experts: task -> expert. Needed by methods that use experts; for others they only add merging deviations to the records.
        progress: show a progress bar over layers when run in a terminal.
        base: the model that the experts were tuned from; needed by methods that use it.

    Raises:
        ConfigError: the group size does not divide a layer's inputs.
        DataError: an empty calibration set, a missing or foreign expert, a missing base.
        NumericalError: NaN or Inf in weights or activations, or moments that no damping makes regular.
    """
    names = [layer for block in model.blocks for group in block.groups for layer in group.layers]
    shapes = {name: tuple(model.get_submodule(name).weight.shape) for name in names}
    check_group_size(shapes, method.group_size, "quantization: group_size")
    with torch.no_grad(), tqdm(total=len(names), desc="layers", unit="layer", disable=None if progress else True) as bar:
        run = _start(model, method, calibration, experts, base)
        for block in model.blocks:
            done = len(run.records)
            _quantize_block(run, block, bar)
            _report(block, run.records[done:])
    for index, record in enumerate(run.records):
        record["index"] = index
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return QuantizedModel(tensors, run.codes, run.records)


def _start(
    model: BlockModel,
    method: Quantizer,
    calibration: Mapping[str, Sequence[Any]],
    experts: Mapping[str, Expert],
    base: Expert | None = None,
) -> Run:
    sampling = method.sampling()
    if method.uses_base and base is None:
        raise DataError("the method needs the base's weights.", where="base", remedy="Give the base that experts stem from.")
    run = Run(model, method, sampling, experts, base if method.uses_base else None)
    if sampling is None:
        return run
    _check_calibration(calibration)
    missing = sorted(set(calibration) - set(experts))
    if sampling.teacher == "experts" and missing:
        raise DataError(
            f"no expert for {', '.join(missing)}.", where="calibration", remedy="Every calibration task needs its expert."
        )
    _start_streams(run, sampling, calibration)
    return run


def _start_streams(run: Run, sampling: Sampling, calibration: Mapping[str, Sequence[Any]]) -> None:
    model, device = run.model, _device(run.model)
    if sampling.inputs == "expert":
        run.source = expert_stream(run.experts, calibration, device, sampling.precision)
    else:
        states = {task: [model.embed(batch) for batch in batches] for task, batches in calibration.items()}
        run.student = run.source = Stream(model, states, precision=sampling.precision)
        if sampling.inputs == "expert_block":
            run.source = expert_blocks(run.experts, run.student, device)
    if sampling.teacher is not None and sampling.teacher_share > 0:
        by_experts = sampling.teacher == "experts"
        run.teacher = (
            expert_stream(run.experts, calibration, device, sampling.precision) if by_experts else merged_stream(run.student)
        )
    if sampling.probe_samples:
        first = {task: first_samples(batches[0], sampling.probe_samples) for task, batches in calibration.items()}
        run.probe = Stream(model, {task: [model.embed(batch)] for task, batch in first.items()})


def _check_calibration(calibration: Mapping[str, Sequence[Any]]) -> None:
    if not calibration:
        raise DataError("there is no calibration task.", where="calibration", remedy="Give at least one task.")
    for task, batches in calibration.items():
        if not batches or any(sample_count(batch) == 0 for batch in batches):
            what = "the calibration set is empty or has an empty batch."
            raise DataError(what, where=f"calibration of {task}", remedy="Check its data set.")


def _device(model: BlockModel) -> torch.device:
    return next(model.parameters()).device


def _quantize_block(run: Run, block: Block, bar: tqdm) -> None:
    sequential = run.sampling.sequential if run.sampling else "group"
    for stages, steps in _plan(run, block, sequential):
        run.stages = stages
        _quantize_stages(run, block, steps, bar, advance_first=sequential == "none")


def _plan(run: Run, block: Block, sequential: str) -> list[tuple[range, list[tuple[Group, ...]]]]:
    """Stages that run together, and the groups in them that are collected together."""
    if sequential != "group":
        return [(range(block.stages), [block.groups])]
    short = run.source is not None and run.source.size() > KEPT_BYTES
    ends = [stage + 1 for stage in range(block.stages) if not (short and stage in block.wide)]
    parts = [range(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]
    return [(stages, [(group,) for group in block.groups if group.stage in stages]) for stages in parts]


def _quantize_stages(run: Run, block: Block, steps: list[tuple[Group, ...]], bar: tqdm, advance_first: bool) -> None:
    for step in steps:
        began = perf_counter()
        waiting: dict[str, Tensor] = {}  # refitted norms that the inputs collected now are not to see
        for group in step:
            fitted = run.method.refit_norm(run, block, group)
            if run.sampling is not None and run.sampling.norms == "after":
                waiting |= fitted
            else:
                _replace(run.model, fitted)
        problems = [problem for group in step for problem in _problems(run, block, group)]
        if run.sampling is not None:
            _collect(run, block, problems)
        run.method.rescale(run, block, problems)  # foldings are exact: what follows sees the same outputs
        if run.sampling is not None and advance_first:
            run.advance(block)
        shared = (perf_counter() - began) / len(problems)
        for problem in problems:
            began = perf_counter()
            solution = run.method.solve(problem)
            problem.seconds = shared + perf_counter() - began
            _install(run, block, problem, solution)
            bar.update(len(problem.names))
        _replace(run.model, waiting)
    if run.sampling is not None and not advance_first:
        run.advance(block)


def _problems(run: Run, block: Block, group: Group) -> list[Problem]:
    """One problem for the layers of a group whose tokens weigh the same."""
    alike: list[tuple[Tensor | None, list[str]]] = []
    for layer in group.layers:
        weights = _token_weights(run, block, layer, next(iter(run.source.states.values()))[0]) if run.source else None
        for known, layers in alike:
            if known is weights or (known is not None and weights is not None and torch.equal(known, weights)):
                layers.append(layer)
                break
        else:
            alike.append((weights, [layer]))
    return [_problem(run, block, group, tuple(layers)) for _, layers in alike]


def _problem(run: Run, block: Block, group: Group, names: tuple[str, ...]) -> Problem:
    modules = tuple(run.model.get_submodule(name) for name in names)
    for name, module in zip(names, modules, strict=True):
        check_finite(module.weight, f"merged model: {name}.weight")
    merged = stack([module.weight for module in modules])
    clipped = [torch.full((len(m.weight),), n not in block.score_layers) for n, m in zip(names, modules, strict=True)]
    problem = Problem(group, names, modules, ", ".join(names), merged, torch.cat(clipped).to(merged.device))
    problem.base = problem.expert_teacher(run.base) if run.base else None
    return problem


def _collect(run: Run, block: Block, problems: list[Problem]) -> None:
    """Moments of every problem's inputs, task by task, one pass over the source's (and the teacher's) batches."""
    sampling, device = run.sampling, problems[0].merged.device
    pools = [Pool(problem.merged, sampling.task_weight, sampling.shift) for problem in problems]
    taps = tuple(dict.fromkeys(problem.group.layers[0] for problem in problems))
    teachers = ahead(run.source.states, lambda task: [_teacher(run, task, problem) for problem in problems])
    for (task, states), targets in zip(run.source.states.items(), teachers, strict=True):
        run.enter(task, block)
        per_task = [
            TaskMoments(p.merged.shape[1], device, len(states), cross=run.teacher is not None, absolute=sampling.absolute)
            for p in problems
        ]
        for index, state in enumerate(states):
            x = run.inputs(run.source, task, index, block, taps)
            y = run.inputs(run.teacher, task, index, block, taps) if run.teacher else {}
            for problem, moments in zip(problems, per_task, strict=True):
                tap = problem.group.layers[0]
                weights = _token_weights(run, block, problem.names[0], state)
                moments.add(x[tap], weights, y.get(tap), sampling.teacher_share)
        for problem, moments, target, pool in zip(problems, per_task, targets, pools, strict=True):
            where = f"task {task}, {problem.where}"
            pool.fold(task, moments.finish(where, sampling.off_diagonal), target, where)
    for problem, pool in zip(problems, pools, strict=True):
        problem.moments = pool.moments()


def _token_weights(run: Run, block: Block, layer: str, state: Any) -> Tensor | None:
    return run.model.token_weights(block, layer, state, run.sampling.class_tokens)


def _teacher(run: Run, task: str, problem: Problem) -> Teacher | None:
    if run.sampling.teacher is None:
        return None
    return problem.expert_teacher(run.experts[task]) if run.sampling.teacher == "experts" else problem.merged_teacher()


def _install(run: Run, block: Block, problem: Problem, solution: Solution) -> None:
    """Writes the records, then the solution into the model."""
    check_finite(solution.weight, f"quantized {problem.where}")
    run.records += layer_records(run.method, problem, solution, run.experts, block.name)
    for name, module, (start, stop) in zip(problem.names, problem.modules, problem.rows(), strict=True):
        # Parameters are replaced, never written into: a loaded tensor may be a view of its checkpoint's memory map.
        module.weight.data = solution.weight[start:stop].clone()
        if solution.bias is not None:
            module.bias.data = solution.bias[start:stop].clone()
        if solution.codes is not None:
            run.codes[name] = solution.codes.rows(start, stop)
    for remedy in solution.remedies:
        log.warning("%s: %s", problem.where, remedy)


def _replace(model: BlockModel, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        model.get_parameter(name).data = tensor


def _report(block: Block, records: list[dict[str, Any]]) -> None:
    seconds = sum(record["seconds"] for record in records)
    lost = sum(record["weight_error"] for record in records) / len(records)
    log.info("%s: %d layers in %.2f s, relative squared weight error %.2g", block.name, len(records), seconds, lost)
