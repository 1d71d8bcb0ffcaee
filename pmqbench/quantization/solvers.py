"""Rounding solvers: a target and, for GPTQ, a factorised metric -> codes on the grid fitted to the target.

GPTQ: Frantar et al., arXiv 2210.17323, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pmqbench.quantization.base import UNROUNDED, Quantizer
from pmqbench.quantization.grid import MSE_SHRINKS, Grid, LayerCodes, fit_grid, mse_error
from pmqbench.quantization.metric import Metric
from pmqbench.quantization.problem import Solution

BLOCK = 256  # columns between two updates of all columns that follow
TILE = 16  # columns between two updates of the rest of their block


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
    width, order = target.shape[1], metric.order
    work = target.T.contiguous() if order is None else target.T[order]
    codes = torch.empty_like(work)
    scales = grid.scale.T.contiguous()
    zeros = torch.zeros_like(scales) if grid.zero is None else grid.zero.T.contiguous()
    steps = Steps(scales, grid.low - zeros, grid.high - zeros)
    groups = torch.arange(width, device=work.device) // (width // len(scales))
    groups = groups if order is None else groups[order]
    if work.device.type == "cuda":
        from pmqbench.quantization.gptq_kernel import round_columns
    else:
        round_columns = _round_columns
    for start in range(0, width, BLOCK):
        block = slice(start, min(start + BLOCK, width))
        upper, size = metric.upper[block, start:].to(target.dtype), block.stop - start
        pivots = upper.diagonal()[:, None]
        errors = torch.empty_like(work[block])
        round_columns(work[block], (upper[:, :size] / pivots).contiguous(), steps, groups[block], codes[block], errors)
        work[block.stop :].addmm_(upper[:, size:].T, errors.div_(pivots), alpha=-1)
    if order is not None:
        codes = torch.empty_like(codes).index_copy_(0, order, codes)
    codes.view(len(zeros), -1, codes.shape[1]).add_(zeros[:, None])
    return codes.to(grid.code_dtype).T.contiguous()


@dataclass(frozen=True)
class Steps:
    """A grid in whole steps of its scale: a weight is step * scale, low <= step <= high; each (groups, out)."""

    scale: Tensor
    low: Tensor
    high: Tensor


def _round_columns(work: Tensor, spread: Tensor, steps: Steps, groups: Tensor, rounded: Tensor, errors: Tensor) -> None:
    """Rounds the columns of a block one after the other, each corrected for the errors of those before it.

    Args:
        work: the block's columns (block, out), changed.
        spread: U_ij / U_ii of the block (block, block): what an error of column i asks of column j.
        steps: the grid.
        groups: the group of each column (block,).
        rounded, errors: what comes out, (block, out): steps, and column minus its grid point.
    """
    chosen, size = groups.tolist(), len(work)
    scales, lows, highs = steps.scale.unbind(), steps.low.unbind(), steps.high.unbind()
    for start in range(0, size, TILE):
        tile = slice(start, min(start + TILE, size))
        columns = work[tile]
        later = spread[tile, tile].triu(1)
        parts = (columns.unbind(), rounded[tile].unbind(), errors[tile].unbind(), later.unbind(), chosen[tile])
        for column, step, error, share, group in zip(*parts, strict=True):
            torch.div(column, scales[group], out=step).round_().clamp_(lows[group], highs[group])
            torch.addcmul(column, step, scales[group], value=-1, out=error)
            columns.addr_(share, error, alpha=-1)
        work[tile.stop :].addmm_(spread[tile, tile.stop :].T, errors[tile], alpha=-1)
