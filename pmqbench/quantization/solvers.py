"""Rounding solvers: a target and, for GPTQ, a factorised metric -> codes on the grid fitted to the target.

GPTQ: Frantar et al., arXiv 2210.17323, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pmqbench.quantization.base import UNROUNDED, Quantizer, SolverQuantizer
from pmqbench.quantization.columns import Steps, blocks, round_columns
from pmqbench.quantization.descent import descend
from pmqbench.quantization.grid import MSE_SHRINKS, Grid, LayerCodes, fit_grid, metric_error, mse_error
from pmqbench.quantization.metric import Metric
from pmqbench.quantization.problem import Solution

Solver = Callable[[Tensor, Metric, Grid], Tensor]
"""(target (out, in), metric, grid) -> codes (out, in)."""


def round_target(
    method: Quantizer,
    target: Tensor,
    metric: Metric | None,
    solver: Literal["gptq", "nearest"] | Solver,
    anchor: float = 0.0,
    grid: Grid | None = None,
) -> Solution:
    """Rounds `target` (out, in) as the method's bits, grid and `solver` say; at 16 bits the target itself is the solution.

    With a metric, a method's `descent_passes` and `refit_scales` follow. `grid` replaces the one its options give.
    """
    remedies = [metric.remedy] if metric is not None and metric.remedy else []
    if method.bits == UNROUNDED:
        return Solution(target, target, None, target, metric, anchor, remedies)
    grid = grid or method_grid(method, target, metric)
    nearest = grid.encode(target)
    codes = nearest if solver == "nearest" else (gptq if solver == "gptq" else solver)(target, metric, grid)
    stored = LayerCodes.of(grid, codes)
    if metric is not None and isinstance(method, SolverQuantizer):
        stored = descend(stored, target, metric, method.descent_passes, method.refit_scales)
    return Solution(target, stored.weight(), stored, grid.decode(nearest), metric, anchor, remedies)


def method_grid(method: Quantizer, target: Tensor, metric: Metric | None = None) -> Grid:
    """The grid of `target` that a method's options describe; a range search in the metric needs the metric."""
    if method.range_search == "minmax":
        return fit_grid(target, method.bits, method.group_size, method.symmetric)
    error = mse_error if method.range_search == "mse" else metric_error(metric.diagonal)
    return fit_grid(target, method.bits, method.group_size, method.symmetric, MSE_SHRINKS, error)


def gptq(target: Tensor, metric: Metric, grid: Grid) -> Tensor:
    """Codes (out, in) of the GPTQ solver: rounds input by input and lets the inputs that follow make up for the error.

    Minimises tr((Q - target) H_d (Q - target)^T) greedily, H_d the metric's damped second moment: with e the error of a column
    over U_jj, that trace is the sum of e^2.
    """
    return round_with_feedback(target, metric.upper, metric.order, grid)


def round_with_feedback(target: Tensor, upper: Tensor, order: Tensor | None, grid: Grid) -> Tensor:
    """Codes (out, in) of rounding column j, whatever its error e, then adding -e upper_jk / upper_jj to every later column k.

    Args:
        target: (out, in).
        upper: (in, in), upper triangular, in `order`.
        order: permutation of the inputs in which they are rounded; None for their own order.
        grid: the grid.
    """
    width = target.shape[1]
    work = target.T.clone(memory_format=torch.contiguous_format) if order is None else target.T[order]
    rounded, steps = torch.empty_like(work), Steps.of(grid)
    groups = torch.arange(width, device=work.device) // (width // len(steps.scale))
    groups = groups if order is None else groups[order]
    for block in blocks(width):
        rows, size = upper[block, block.start :].to(target.dtype), block.stop - block.start
        pivots = rows.diagonal()[:, None]
        errors = torch.empty_like(work[block])
        round_columns(work[block], (rows[:, :size] / pivots).contiguous(), steps, groups[block], rounded[block], errors)
        work[block.stop :].addmm_(rows[:, size:].T, errors.div_(pivots), alpha=-1)
    if order is not None:
        rounded = torch.empty_like(rounded).index_copy_(0, order, rounded)
    return steps.codes(rounded, grid)
