"""The one layer loop: block by block, group by group, collect inputs' moments, let the method solve, put the result in place.

What a method needs collected is its `Sampling`; what it does with it are its hooks. The model is known by its blocks only.
Several processes collect the moments of a task each; all of them solve, from the same sums.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from pmqbench.checkpoints import check_finite
from pmqbench.distributed import ALONE, World
from pmqbench.errors import ConfigError
from pmqbench.families.base import Block, BlockModel, Group
from pmqbench.heartbeat import Rounds, rounds
from pmqbench.quantization.base import Quantizer, check_group_size
from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.layer_record import layer_records
from pmqbench.quantization.moments import Pool, Share, TaskMoments, Teacher
from pmqbench.quantization.problem import Expert, Problem, Solution, place, stack, stack_bias
from pmqbench.quantization.run import Run, start
from pmqbench.quantization.streams import ahead

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


def quantize_model(
    model: BlockModel,
    method: Quantizer,
    calibration: Mapping[str, Sequence[Any]],
    experts: Mapping[str, Expert],
    base: Expert | None = None,
    world: World = ALONE,
) -> QuantizedModel:
    """Quantizes the linear layers of `model`'s blocks, in place: afterwards it is the quantized model.

    Args:
        model: the merged model, float32, on the device to work on. Its state_dict names are the canonical names.
        method: an instance of a class in QUANTIZERS.
        calibration: task -> input batches as `model.embed` takes them; not looked at by uncalibrated methods.
        experts: task -> expert. Needed by methods that use experts; for others they only add merging deviations to the records.
        base: the model that the experts were tuned from; needed by methods that use it.
        world: processes that share the work of a `parallel` method: each gives the calibration of its own tasks and the experts
            of all, and all get the same result.

    Raises:
        ConfigError: the group size does not divide a layer's inputs, or several processes for a method that is not `parallel`.
        DataError: an empty calibration set, a missing or foreign expert, a missing base.
        NumericalError: NaN or Inf in weights or activations, or moments that no damping makes regular.
    """
    names = [layer for block in model.blocks for group in block.groups for layer in group.layers]
    shapes = {name: tuple(model.get_submodule(name).weight.shape) for name in names}
    check_group_size(shapes, method.group_size, "quantization: group_size")
    if world.size > 1 and not method.parallel:
        raise ConfigError(f"{type(method).__name__} runs in one process.", where="processes", remedy="Set it to 1.")
    method = method.prepare(model, calibration, experts, base, world)
    with torch.no_grad(), rounds("layers", len(names)) as loop:
        run = start(model, method, calibration, experts, base, world)
        for block in model.blocks:
            done = len(run.records)
            _quantize_block(run, block, loop)
            world.check_same(model.get_submodule(block.name).parameters(), block.name)
            _report(block, run.records[done:])
    for index, record in enumerate(run.records):
        record["index"] = index
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return QuantizedModel(tensors, run.codes, run.records)


def _quantize_block(run: Run, block: Block, loop: Rounds) -> None:
    sequential = run.sampling.sequential if run.sampling else "group"
    for stages, steps in _plan(run, block, sequential):
        run.stages = stages
        _quantize_stages(run, block, steps, loop, advance_first=sequential == "none")


def _plan(run: Run, block: Block, sequential: str) -> list[tuple[range, list[tuple[Group, ...]]]]:
    """Stages that run together, and the groups in them that are collected together."""
    if sequential != "group":
        return [(range(block.stages), [block.groups])]
    short = run.source is not None and run.source.size() > KEPT_BYTES
    ends = [stage + 1 for stage in range(block.stages) if not (short and stage in block.wide)]
    parts = [range(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]
    return [(stages, [(group,) for group in block.groups if group.stage in stages]) for stages in parts]


def _quantize_stages(run: Run, block: Block, steps: list[tuple[Group, ...]], loop: Rounds, advance_first: bool) -> None:
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
        shared, solved = (perf_counter() - began) / len(problems), []
        for problem in problems:
            began = perf_counter()
            solution = run.method.solve(problem)
            problem.seconds = shared + perf_counter() - began
            place(problem, solution)
            solved.append((problem, solution))
            loop.advance(len(problem.names))
        _replace(run.model, waiting)
        began = perf_counter()
        if run.reference is not None:
            run.reference.advance(block, run.stages)
        run.method.reconstruct(run, block, solved)
        shared = (perf_counter() - began) / len(problems)
        for problem, solution in solved:
            problem.seconds += shared
            _record(run, block, problem, solution)
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
    # Seen on one batch of this process's: all must go by one of them.
    return [_problem(run, block, group, tuple(layers)) for layers in run.world.broadcast([layers for _, layers in alike])]


def _problem(run: Run, block: Block, group: Group, names: tuple[str, ...]) -> Problem:
    modules = tuple(run.model.get_submodule(name) for name in names)
    for name, module in zip(names, modules, strict=True):
        check_finite(module.weight, f"merged model: {name}.weight")
    merged = stack([module.weight for module in modules])
    clipped = [torch.full((len(m.weight),), n not in block.score_layers) for n, m in zip(names, modules, strict=True)]
    problem = Problem(group, names, modules, ", ".join(names), merged, torch.cat(clipped).to(merged.device))
    problem.merged_bias = stack_bias([module.bias for module in modules])
    problem.base = problem.expert_teacher(run.base) if run.base else None
    return problem


def _collect(run: Run, block: Block, problems: list[Problem]) -> None:
    """Moments of every problem's inputs, task by task, one pass over the source's (and the teacher's) batches."""
    pools = [Pool(problem.merged, run.sampling.task_weight, run.sampling.shift) for problem in problems]
    shares = run.world.in_order(len(run.tasks), _shares(run, block, problems, pools))
    for task, of_task in zip(run.tasks, shares, strict=True):
        for pool, share in zip(pools, of_task, strict=True):
            pool.add(task, share)
    for problem, pool in zip(problems, pools, strict=True):
        problem.moments = pool.moments()


def _shares(run: Run, block: Block, problems: list[Problem], pools: list[Pool]) -> Iterator[list[Share]]:
    """What each of this process's tasks adds to the problems' pools."""
    sampling, device = run.sampling, problems[0].merged.device
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
        places = [f"task {task}, {problem.where}" for problem in problems]
        yield [
            pool.share(moments.finish(where, sampling.off_diagonal), target, where)
            for where, moments, target, pool in zip(places, per_task, targets, pools, strict=True)
        ]


def _token_weights(run: Run, block: Block, layer: str, state: Any) -> Tensor | None:
    return run.model.token_weights(block, layer, state, run.sampling.class_tokens)


def _teacher(run: Run, task: str, problem: Problem) -> Teacher | None:
    if run.sampling.teacher is None:
        return None
    return problem.expert_teacher(run.experts[task]) if run.sampling.teacher == "experts" else problem.merged_teacher()


def _record(run: Run, block: Block, problem: Problem, solution: Solution) -> None:
    """Keeps the records and codes of what is in place."""
    run.records += layer_records(run.method, problem, solution, run.experts, block.name, run.world)
    if solution.codes is not None:
        run.codes |= {name: solution.codes.rows(*rows) for name, rows in zip(problem.names, problem.rows(), strict=True)}
    for remedy in solution.remedies:
        log.warning("%s: %s", problem.where, remedy)


def _replace(model: BlockModel, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        model.get_parameter(name).data = tensor


def _report(block: Block, records: list[dict[str, Any]]) -> None:
    seconds = sum(record["seconds"] for record in records)
    lost = sum(record["weight_error"] for record in records) / len(records)
    log.info("%s: %d layers in %.2f s, relative squared weight error %.2g", block.name, len(records), seconds, lost)
