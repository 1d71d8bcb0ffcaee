"""HQQ, half-quadratic quantization: Badri and Shaji 2023, https://mobiusml.github.io/hqq_blog, code mobiusml/hqq. Sees no data.

Minimises sum |w - s (q - z)|^p, p = 0.7, over a group's scale s and zero point z by half-quadratic splitting, 20 steps of:
q = clamp(round(w / s + z)), r = w - s (q - z), e = sign(r) max(|r| - |r|^(p - 1) / beta, 0), then s and z by least squares from
s (q - z) = w - e; beta is 10 and grows by 1 % a step. The published code holds s and moves a real z alone,
z = mean(q - (w - e) / s). Files in compressed-tensors' format hold whole zero points, and that z, rounded, is the one it began
with: z moves by less than a half, since a min-max grid clips nothing. So here z is rounded in every step, and
s = <w - e, q - z> / |q - z|^2 follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pmqbench.quantization.base import QUANTIZERS, UNROUNDED, Quantizer

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.quantization.grid import Grid
    from pmqbench.quantization.problem import Problem, Solution

STEPS, NORM, BETA, GROWTH = 20, 0.7, 10.0, 1.01  # of the published code


@QUANTIZERS.register("hqq")
@dataclass(frozen=True, kw_only=True)
class Hqq(Quantizer):
    """(W_merged, no metric), solver nearest on grids of least |error|^0.7."""

    symmetric: Annotated[Literal[False], Field(description="The method moves zero points, so there have to be some.")] = False

    def solve(self, problem: Problem) -> Solution:
        """Rounds the merged weights to nearest."""
        from pmqbench.quantization.solvers import method_grid, round_target

        weight = problem.weight
        grid = None if self.bits == UNROUNDED else half_quadratic(weight, method_grid(self, weight))
        return round_target(self, weight, None, "nearest", grid=grid)


def half_quadratic(weight: Tensor, grid: Grid) -> Grid:
    """The grid of a weight (out, in) that the steps lead to from `grid`: of those that they meet, each group's best.

    The published code stops where the mean |error| of the whole tensor rises; here each group keeps what lost least of its own.
    """
    import torch

    grouped = weight.view(*grid.scale.shape, -1)
    scale, zero, beta = grid.scale[..., None], grid.zero[..., None], BETA
    best_scale, best_zero, least = scale, zero, torch.full_like(scale, torch.inf)
    for _ in range(STEPS):
        codes = torch.round(grouped / scale + zero).clamp_(grid.low, grid.high)
        error = grouped - scale * (codes - zero)
        size = error.abs().mean(-1, keepdim=True)
        better = size < least
        best_scale, best_zero = torch.where(better, scale, best_scale), torch.where(better, zero, best_zero)
        least = torch.where(better, size, least)
        wanted = grouped - error.sign() * (error.abs() - error.abs().pow(NORM - 1) / beta).clamp_(min=0)
        zero = (codes - wanted / scale).mean(-1, keepdim=True).round_().clamp_(grid.low, grid.high)
        centred = codes - zero
        fitted = (wanted * centred).sum(-1, keepdim=True) / centred.square().sum(-1, keepdim=True)
        scale = torch.where(fitted > 0, fitted, scale)  # a group of zero points, 0 / 0, and codes of the wrong sign keep theirs
        beta *= GROWTH
    return replace(grid, scale=best_scale[..., 0].contiguous(), zero=best_zero[..., 0].contiguous())
