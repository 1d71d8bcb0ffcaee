"""What can follow a solver in the same file format: coordinate descent over the codes, and scales refitted to them.

Both lower J(Q) = tr((Q - W*) H_a (Q - W*)^T) with W* the target and H_a the metric. J is a sum over output rows, and a row that
does not lose less in the end, in float64, keeps what the solver gave it: J never rises.

- Coordinate descent (QuantEase: Behdin et al., arXiv 2309.01885; `allbal` in the code of QuIP, arXiv 2307.13304): input by
  input, q_j <- the grid point nearest to q_j - ((Q - W*) H_a)_j / (H_a)_jj, the exact minimum over code j.
- Scales: J is quadratic in the scales of a row, its minimum over them a linear system with one unknown per group.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pmqbench.quantization.columns import Steps, blocks, round_columns
from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.metric import Metric

LEAST_GAIN = 1e-3  # share of J by which a pass must lower it for another one to follow
SYSTEM_VALUES = 2**24  # values of the rows' linear systems held at once


def descend(stored: LayerCodes, target: Tensor, metric: Metric, passes: int, refit: bool) -> LayerCodes:
    """`stored` with J lowered by up to `passes` passes of coordinate descent, and scales refitted before each and at the end.

    Args:
        stored: the solver's codes of a weight (out, in).
        target: W* (out, in).
        metric: H_a.
        passes: no further one follows a pass that, with its refit, lowers J by less than LEAST_GAIN.
        refit: whether scales are refitted.
    """
    if not (passes or refit):
        return stored
    before, found = row_losses(stored, target, metric), stored
    loss = float(before.sum())
    for _ in range(passes):
        found, by_scales = refitted(found, target, metric) if refit else (found, 0.0)
        found, by_codes = descended(found, target, metric)
        loss -= by_scales + by_codes
        if by_scales + by_codes < LEAST_GAIN * loss:
            break
    if refit:
        found, _ = refitted(found, target, metric)
    better = (row_losses(found, target, metric) < before)[:, None]
    codes = torch.where(better, found.codes, stored.codes)
    return replace(stored, codes=codes, scale=torch.where(better, found.scale, stored.scale))


def row_losses(stored: LayerCodes, target: Tensor, metric: Metric) -> Tensor:
    """J of each row (out,), in float64."""
    error = stored.weight().double() - target
    return (metric.times(error) * error).sum(1)


def descended(stored: LayerCodes, target: Tensor, metric: Metric) -> tuple[LayerCodes, float]:
    """One pass over all inputs, a block at a time, and by how much J fell.

    With G_kj = H_kj / H_kk and e the error Q - W*, code k should lie at u_k = -sum_{j != k} G_kj e_j, relative to W*; inside a
    block e_j of j < k is new. Let r = u - e be what rounding leaves, L the part of G below the diagonal and a what comes from
    old errors: (I + L) u = a + L r, so u = F a + (I - F) r with F = (I + L)^-1. That is rounding with feedback, as GPTQ's, in
    which r of column j adds -F_kj r to u_k. Scaled by H_kk^1/2 the symmetric part of I + L is at least I / 2, so F is bounded
    however singular H is. A code that moves by d lowers J by H_kk ((r + d)^2 - r^2).
    """
    grid = stored.grid()
    steps = Steps.of(grid)
    wanted = target.T.contiguous()
    error = (stored.weight() - target).T.contiguous()
    rounded = torch.empty_like(wanted)
    groups = torch.arange(len(wanted), device=wanted.device) // (len(wanted) // len(steps.scale))
    diagonal = metric.diagonal.to(wanted.dtype)[:, None]
    gain = torch.zeros((), dtype=torch.float64, device=wanted.device)
    for block in blocks(len(wanted)):
        share = metric.second[block] / diagonal[block]
        inside = share[:, block]
        feedback = _inverse(inside.tril(-1))
        share[:, block] = inside.triu(1)
        work = wanted[block] - feedback @ (share @ error)
        left = torch.empty_like(work)
        round_columns(work, feedback.T.contiguous(), steps, groups[block], rounded[block], left)
        new = torch.addcmul(-wanted[block], rounded[block], steps.scale[groups[block]])
        moved = new - error[block]
        gain += (diagonal[block] * moved * (moved + 2 * left)).sum(dtype=torch.float64)
        error[block] = new
    return replace(stored, codes=steps.codes(rounded, grid)), float(gain)


def _inverse(lower: Tensor) -> Tensor:
    """(I + lower)^-1 of a strictly lower triangular matrix."""
    identity = torch.eye(len(lower), dtype=torch.float64, device=lower.device)
    return torch.linalg.solve_triangular(lower.double(), identity, upper=False, unitriangular=True).to(lower.dtype)


def refitted(stored: LayerCodes, target: Tensor, metric: Metric) -> tuple[LayerCodes, float]:
    """Least-squares scales of the codes, zero points staying as they are, and by how much J fell.

    With C_g the codes of group g less the zero point, zero outside of it, and E = Q - W*, the change d of the scales solves
    sum_h (C_g H_a C_h^T) d_h = -C_g (E H_a)^T. A group whose codes are all zero points keeps its scale, a row keeps its scales
    where one would not be positive.
    """
    grid = stored.grid()
    centred = replace(grid, scale=torch.ones_like(grid.scale)).decode(stored.codes).double()
    outputs, groups = stored.scale.shape
    pull = metric.times(stored.weight().double() - target)
    gradient = (pull * centred).view(outputs, groups, -1).sum(-1)
    rows = max(1, SYSTEM_VALUES // groups**2)
    parts = zip(centred.split(rows), gradient.split(rows), strict=True)
    change = torch.cat([_scale_change(*part, metric) for part in parts])
    scale = (stored.scale + change).to(stored.scale.dtype)
    usable = (scale.isfinite() & (scale > 0)).all(1, keepdim=True)
    gain = -torch.where(usable, gradient * change, 0).sum()
    return replace(stored, scale=torch.where(usable, scale, stored.scale)), float(gain)


def _scale_change(centred: Tensor, gradient: Tensor, metric: Metric) -> Tensor:
    """Newton's step in the scales (out, groups) of rows with centred codes (out, in), from J's halved gradient in them."""
    outputs, groups = gradient.shape
    size = centred.shape[1] // groups
    systems = centred.new_empty(outputs, groups, groups)
    for group in range(groups):
        inputs = slice(group * size, (group + 1) * size)
        systems[:, group] = (metric.times(centred[:, inputs], inputs) * centred).view(outputs, groups, size).sum(-1)
    diagonal = systems.diagonal(dim1=1, dim2=2)
    diagonal += diagonal == 0
    return -torch.linalg.solve_ex(systems, gradient[..., None]).result[..., 0]
