"""The record of each quantized layer: what rounding lost, how far its outputs are from the experts', and how the solve went.

Deviations are per token and in the coordinates of the inputs as collected (AWQ's scales taken out), so methods compare. Pooled
ones use the method's own task weights; those per task come from up to `moments.SAMPLE_TOKENS` tokens of the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pmqbench import provenance
from pmqbench.distributed import World
from pmqbench.quantization.base import UNROUNDED, Quantizer
from pmqbench.quantization.moments import Sample
from pmqbench.quantization.problem import Expert, Problem, Solution
from pmqbench.quantization.streams import ahead


def layer_records(
    method: Quantizer, problem: Problem, solution: Solution, experts: Mapping[str, Expert], block: str, world: World
) -> list[dict[str, Any]]:
    """One JSON-able record for each layer of `problem`; docs/quantization.md explains the fields.

    Args:
        method: the method's options.
        problem: as it was solved.
        solution: its solution.
        experts: experts by task; tasks without one have no merging deviation.
        block: the block's name.
        world: processes, each of which compares with some of the experts.
    """
    weights = {
        "merged": problem.merged,
        "target": problem.unfolded(solution.target),
        "nearest": problem.unfolded(solution.nearest),
        "final": problem.unfolded(solution.weight),
    }
    rows = list(problem.rows())
    objective, quantization, scale = _pooled(problem, solution, weights)
    merging, own = _per_task(problem, weights, experts, world)
    bias_shift = None if solution.bias is None else (solution.bias - problem.merged_bias).square()
    records = []
    for name, (start, stop) in zip(problem.names, rows, strict=True):
        rounding = weights["final"][start:stop] - weights["target"][start:stop]
        metric = solution.metric
        records.append(
            {
                "layer": name,
                "block": block,
                "shape": [stop - start, problem.merged.shape[1]],
                "bits": UNROUNDED if solution.codes is None else solution.codes.bits,
                "group_size": method.group_size,
                "symmetric": method.symmetric,
                "tokens": problem.moments.tokens if problem.moments else None,
                "task_weights": problem.moments.weights if problem.moments else None,
                "weight_error": _ratio(rounding.square(), weights["target"][start:stop].square()),
                "quantization": _relative(quantization, scale, start, stop),
                "merging": _slice(merging, start, stop),
                "merging_own_inputs": _slice(own, start, stop),
                "objective": None if objective is None else {k: float(v[start:stop].sum()) for k, v in objective.items()},
                "condition": metric.condition if metric else None,
                "damping": metric.damping + metric.raised if metric else None,
                "remedy": "; ".join(solution.remedies) or None,
                "bias_shift": None if bias_shift is None else float(bias_shift[start:stop].sum().sqrt()),
                "seconds": problem.seconds * (stop - start) / rows[-1][1],
                "peak_memory_mb": peak_memory_mb(problem.merged.device),
            }
        )
    return records


def peak_memory_mb(device: torch.device) -> float:
    """The most memory in MB that this process has held so far: on the GPU if `device` is one, else resident."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else provenance.peak_memory_mb()


def _pooled(
    problem: Problem, solution: Solution, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor] | None, Tensor | None, Tensor | None]:
    """J of each of `weights`, E|Q x - target x|^2 and E|W_merged x|^2, each per output (out,); Nones without moments."""
    if problem.moments is None:
        return None, None, None
    moments, anchor = problem.moments, solution.anchor * (solution.metric.mu if solution.metric else 0.0)
    names = ("target", "nearest", "final")
    rows = [*(weights[name] - weights["merged"] for name in names), weights["merged"]]
    products = (torch.cat(rows) @ moments.second).split([len(part) for part in rows])
    moved = {name: parts for name, *parts in zip(names, rows, products, strict=False)}  # the last is of W_merged itself

    def objective(difference: Tensor, product: Tensor) -> Tensor:
        value = start + (product * difference).sum(1) + anchor * (difference - pull).square().sum(1)
        return value if moments.cross is None else value - 2 * (moments.cross * difference).sum(1)

    start = torch.zeros_like(problem.merged[:, 0]) if moments.residual is None else moments.residual
    pull = torch.zeros_like(problem.merged[:1]) if solution.pull is None else solution.pull
    rounding, its_product = (final - target for final, target in zip(moved["final"], moved["target"], strict=True))
    return (
        {"merged": start + anchor * pull.square().sum(1)} | {name: objective(*parts) for name, parts in moved.items()},
        (its_product * rounding).sum(1),
        (products[-1] * rows[-1]).sum(1),
    )


def _per_task(
    problem: Problem, weights: Mapping[str, Tensor], experts: Mapping[str, Expert], world: World
) -> tuple[dict[str, dict[str, Tensor]] | None, dict[str, dict[str, Tensor]] | None]:
    """Merging deviations per output (out,) by task: E|W x - W_t x|^2, and E|W x - W_t y|^2 for target inputs y."""
    samples = {task: sample for task, sample in (problem.moments.samples if problem.moments else {}).items() if task in experts}
    found = world.in_order(len(samples), _compared(problem, weights, experts, samples, world.own(list(samples))))
    by_task = dict(zip(samples, found, strict=True))
    merging = {task: pair[0] for task, pair in by_task.items()}
    own = {task: pair[1] for task, pair in by_task.items() if pair[1] is not None}
    return merging or None, own or None


def _compared(
    problem: Problem,
    weights: Mapping[str, Tensor],
    experts: Mapping[str, Expert],
    samples: Mapping[str, Sample],
    tasks: Sequence[str],
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor] | None]]:
    """Of each of `tasks`, the deviations on the inputs x, and on the target's inputs y or None."""
    names = ("final", "target", "merged")
    stacked = torch.cat([weights[name] for name in names]).T
    teachers = ahead(tasks, lambda task: problem.expert_teacher(experts[task]).weight.T)
    for task, expert in zip(tasks, teachers, strict=True):
        sample = samples[task]
        outputs = dict(zip(names, (sample.x @ stacked).tensor_split(len(names), dim=1), strict=True))
        wanted = sample.x @ expert
        shifted = None if sample.shift is None else wanted + sample.shift @ expert
        yield (
            _deviations(sample.weights, outputs, wanted),
            None if shifted is None else _deviations(sample.weights, outputs, shifted),
        )


def _deviations(weights: Tensor, outputs: Mapping[str, Tensor], wanted: Tensor) -> dict[str, Tensor]:
    """Weighted mean over tokens of |output - wanted|^2 per output (out,), and as "scale" that of the merged weights' output."""
    by_weight = {name: weights @ (output - wanted).square() for name, output in outputs.items()}
    return by_weight | {"scale": weights @ outputs["merged"].square()}


def _slice(by_task: dict[str, dict[str, Tensor]] | None, start: int, stop: int) -> dict[str, dict[str, float]] | None:
    if by_task is None:
        return None
    return {task: {name: float(rows[start:stop].sum()) for name, rows in parts.items()} for task, parts in by_task.items()}


def _relative(value: Tensor | None, scale: Tensor | None, start: int, stop: int) -> dict[str, float] | None:
    if value is None:
        return None
    return {"absolute": float(value[start:stop].sum()), "relative": _ratio(value[start:stop], scale[start:stop])}


def _ratio(part: Tensor, whole: Tensor) -> float:
    """Sum over sum; 0 where there is nothing to lose."""
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0
