"""AWQ's search: scales per input channel, folded into what stands before the layer so that the model computes the same.

Lin et al., arXiv 2306.00978. A scale moves precision to the channels with large inputs: W diag(s) is rounded, and the norm or
the producing layer before it divides its output by s. Only exact foldings are used (`Group.norm`, `Group.producer`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pmqbench.families.base import Block, BlockModel, Group
from pmqbench.quantization.base import UNROUNDED, Quantizer
from pmqbench.quantization.grid import Grid, GroupError, fit_grid
from pmqbench.quantization.problem import Problem
from pmqbench.quantization.run import Run
from pmqbench.quantization.solvers import method_grid
from pmqbench.quantization.streams import Stream, state_tensors

RATIOS = tuple(i / 20 for i in range(20))
CLIP_SHRINKS = tuple(1 - i / 20 for i in range(10))
LEAST_SCALE = 1e-4


def fold_best_scales(run: Run, method: Quantizer, block: Block, problems: list[Problem]) -> None:
    """Searches and folds scales, group by group in forward order, wherever they fold exactly."""
    if method.bits == UNROUNDED:
        return  # nothing is rounded, so no scale is better than another
    for group in block.groups:
        members = [problem for problem in problems if problem.group is group]
        if group.norm is None and group.producer is None:
            continue
        scale = search_scale(run, method, block, members)
        if scale is not None:
            fold(run.model, group, scale)
            _note(problems, members, group, scale)


def search_scale(run: Run, method: Quantizer, block: Block, members: list[Problem]) -> Tensor | None:
    """The scale (in,) of least squared error in the block's output with `members` rounded; None if not scaling is best.

    s = mean|x|^r / (mean|w|^(1-r) + 1e-4) / sqrt(max s * min s) for 20 ratios r, |w| normalised by its group's largest.
    """
    modules = [module for problem in members for module in problem.modules]
    originals = [module.weight.data for module in modules]
    weight, sizes = torch.cat(originals), [len(original) for original in originals]
    inputs = members[0].moments.absolute.float()
    normal = _normalised_size(weight, method.group_size)
    reference = _outputs(run.probe, block)
    candidates = [None, *(_candidate(inputs, normal, ratio) for ratio in RATIOS)]
    losses: list[list[list[float]]] = [[] for _ in reference]  # of each of this process's tasks, by candidate and tensor
    for scale in candidates:
        scaled = weight if scale is None else weight * scale
        grid = method_grid(method, scaled)
        rounded = grid.decode(grid.encode(scaled))
        for module, rows in zip(modules, (rounded if scale is None else rounded / scale).split(sizes), strict=True):
            module.weight.data = rows
        for of_task, outputs, wanted in zip(losses, _outputs(run.probe, block), reference, strict=True):
            of_task.append([float((out - want).square().sum()) for out, want in zip(outputs, wanted, strict=True)])
    for module, original in zip(modules, originals, strict=True):
        module.weight.data = original
    by_task = run.world.all_of(losses)
    totals = [sum(loss for of_task in by_task for loss in of_task[place]) for place in range(len(candidates))]
    return candidates[totals.index(min(totals))]


def fold(model: BlockModel, group: Group, scale: Tensor) -> None:
    """Multiplies the columns of the group's weights by `scale` (in,) and divides what produces their input by it."""
    for layer in group.layers:
        module = model.get_submodule(layer)
        module.weight.data = module.weight * scale
    before = model.get_submodule(group.norm or group.producer)
    before.weight.data = before.weight / (scale if group.norm else scale[:, None])
    if getattr(before, "bias", None) is not None:
        before.bias.data = before.bias / scale


def clipped_grid(method: Quantizer, problem: Problem) -> Grid:
    """The grid of the problem's weight with each group's range shrunk to the least output error on its own inputs.

    Ten shrinks from 1 to 0.55; rows that are not `clipped` (attention's q and k) keep the whole range.
    """
    weight = problem.weight
    return fit_grid(
        weight, method.bits, method.group_size, method.symmetric, CLIP_SHRINKS, _output_error(problem, method.group_size)
    )


def _output_error(problem: Problem, group_size: int | None) -> GroupError:
    """E|e . x|^2 of a group's inputs x, from the diagonal blocks of their second moment."""
    second = problem.moments.second
    if problem.in_scale is not None:
        second = second / torch.outer(problem.in_scale, problem.in_scale)
    size = group_size or len(second)
    blocks = torch.stack([second[i : i + size, i : i + size] for i in range(0, len(second), size)])

    def error(difference: Tensor) -> Tensor:
        by_group = difference.transpose(0, 1)
        energy = (torch.bmm(by_group, blocks) * by_group).sum(-1).T
        return torch.where(problem.clipped[:, None], energy, 0.0)  # never less than its first value: no shrink

    return error


def _note(problems: list[Problem], members: list[Problem], group: Group, scale: Tensor) -> None:
    """Keeps what was folded, so that records can be made in the coordinates of the inputs as collected."""
    for problem in members:
        problem.in_scale = scale
    for problem in problems:
        for name, (start, stop) in zip(problem.names, problem.rows(), strict=True):
            if group.norm is None and name == group.producer:
                if problem.out_scale is None:
                    problem.out_scale = torch.ones_like(problem.merged[:, 0])
                problem.out_scale[start:stop] /= scale


def _candidate(inputs: Tensor, normal: Tensor, ratio: float) -> Tensor:
    scale = (inputs.pow(ratio) / (normal.pow(1 - ratio) + LEAST_SCALE)).clamp(min=LEAST_SCALE)
    return scale / (scale.max() * scale.min()).sqrt()


def _normalised_size(weight: Tensor, group_size: int | None) -> Tensor:
    grouped = weight.abs().view(len(weight), -1, group_size or weight.shape[1])
    return (grouped / (grouped.amax(-1, keepdim=True) + 1e-6)).view_as(weight).mean(0)


def _outputs(probe: Stream, block: Block) -> list[list[Tensor]]:
    """The tensors behind the block, by task."""
    return [
        [tensor for state in states for tensor in state_tensors(probe.model.run_block(block, state))]
        for states in probe.states.values()
    ]
