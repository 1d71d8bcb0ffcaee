"""Rounding solvers: a target and, for GPTQ, a factorised metric -> codes on the grid fitted to the target.

GPTQ: Frantar et al., arXiv 2210.17323, Algorithm 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pmqbench.quantization.base import UNROUNDED, Quantizer
from pmqbench.quantization.grid import MSE_SHRINKS, Grid, LayerCodes, fit_grid, mse_error
from pmqbench.quantization.metric import Metric
from pmqbench.quantization.problem import Solution

BLOCK = 128  # columns between two updates of all columns that follow


def round_target(
    method: Quantizer,
    target: Tensor,
    metric: Metric | None,
    solver: Literal["gptq", "nearest"],
    anchor: float = 0.0,
    grid: Grid | None = None,
) -> Solution:
    """Rounds `target` (out, in) as the method's bits, grid and `solver` say; at 16 bits the target itself is the solution.

    `grid` replaces the grid that the method's options give.
    """
    remedies = [metric.remedy] if metric is not None and metric.remedy else []
    if method.bits == UNROUNDED:
        return Solution(target, target, None, target, metric, anchor, remedies)
    grid = grid or method_grid(method, target)
    nearest = grid.encode(target)
    codes = gptq(target, metric, grid) if solver == "gptq" else nearest
    stored = LayerCodes.of(grid, codes)
    return Solution(target, stored.weight(), stored, grid.decode(nearest), metric, anchor, remedies)


def method_grid(method: Quantizer, target: Tensor) -> Grid:
    """The grid of `target` that a method's options describe."""
    shrinks, error = ((1.0,), None) if method.range_search == "minmax" else (MSE_SHRINKS, mse_error)
    return fit_grid(target, method.bits, method.group_size, method.symmetric, shrinks, error)


def gptq(target: Tensor, metric: Metric, grid: Grid) -> Tensor:
    """Codes (out, in) of the GPTQ solver: rounds input by input and lets the inputs that follow make up for the error.

    Minimises tr((Q - target) H_d (Q - target)^T) greedily, H_d the metric's damped second moment: with e the error of a column
    over U_jj, that trace is the sum of e^2. Works on the transpose, so that a column of the weight is contiguous.
    """
    width = target.shape[1]
    order = torch.arange(width, device=target.device) if metric.order is None else metric.order
    upper = metric.upper.to(target.dtype)
    work = target.T[order].contiguous()
    codes = torch.empty_like(work)
    scales = grid.scale.T.contiguous()
    zeros = torch.zeros_like(scales) if grid.zero is None else grid.zero.T.contiguous()
    groups = (order // (width // len(scales))).tolist()
    pivots = upper.diagonal().tolist()
    for start in range(0, width, BLOCK):
        stop = min(start + BLOCK, width)
        columns, inner = work[start:stop], upper[start:stop, start:stop]
        errors = torch.empty_like(columns)
        for i, column in enumerate(columns):
            scale, zero = scales[groups[start + i]], zeros[groups[start + i]]
            code = torch.round(column / scale).add_(zero).clamp_(grid.low, grid.high)
            codes[start + i] = code
            error = torch.sub(column, (code - zero).mul_(scale), out=errors[i]).div_(pivots[start + i])
            columns[i + 1 :].addr_(inner[i, i + 1 :], error, alpha=-1)
        work[stop:].addmm_(upper[start:stop, stop:].T, errors, alpha=-1)
    placed = torch.empty_like(codes)
    placed[order] = codes
    return placed.T.contiguous().to(grid.code_dtype)
