"""Qronos: Zhang et al., arXiv 2505.11695.

x are the inputs of the model as quantized so far, x_f those at full precision, G = E[x_f x^T], H = E[x x^T], d = damping times
the largest eigenvalue of H. A row w is rounded so that E|w x_f - q x|^2 is small. q_1 is nearest to
(w G_1 - w_2.. H_2..,1) / H_11; the others jump to their optimum (w (G + d I)_2.. - q_1 H_1,2..) (H_2..,2.. + d I)^-1 given q_1,
and GPTQ rounds them in H + d I.

With W* = W + W (G - H) (H + d I)^-1 that jump is GPTQ's own step from W*_1 to q_1: all but q_1 itself is GPTQ of W*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pmqbench.quantization.base import QUANTIZERS, Sampling
from pmqbench.quantization.methods.gptq import Gptq

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.quantization.grid import Grid
    from pmqbench.quantization.metric import Metric
    from pmqbench.quantization.problem import Problem, Solution

POWER_STEPS = 30  # of the published code, for the largest eigenvalue


@QUANTIZERS.register("qronos")
@dataclass(frozen=True, kw_only=True)
class Qronos(Gptq):
    """(W*, H + damping), solver gptq but for the first column."""

    damping: Annotated[
        float, Field(ge=0, le=1, description="Share of H's largest eigenvalue added to H before it is inverted.")
    ] = 1e-6

    def sampling(self) -> Sampling:
        """GPTQ's, and the inputs in the merged model at full precision."""
        from dataclasses import replace

        return replace(super().sampling(), teacher="merged", teacher_share=1.0)

    def metric(self, problem: Problem) -> Metric:
        """H + d I, factorised."""
        from pmqbench.quantization.metric import factorise, largest_eigenvalue

        moments = problem.moments
        second = moments.second.double()
        mean = float(second.diagonal().mean())
        share = self.damping * largest_eigenvalue(second, POWER_STEPS) / mean if mean else self.damping  # no input at all
        return factorise(moments.second, share, where=problem.where, tokens=moments.tokens, act_order=self.act_order)

    def solve(self, problem: Problem) -> Solution:
        """Rounds the merged weights on their own grid."""
        from pmqbench.quantization.base import UNROUNDED
        from pmqbench.quantization.solvers import gptq, method_grid, round_target
        from pmqbench.quantization.targets import corrected_target

        moments, metric = problem.moments, self.metric(problem)
        live = moments.second.diagonal() != 0
        weight = problem.weight * live
        target = corrected_target(weight, moments.cross, metric)
        first = 0 if metric.order is None else int(metric.order[0])
        # A first input that is always zero has a cross moment of zero.
        wanted = weight[:, first] + moments.cross[:, first] / (float(moments.second[first, first]) or 1.0)

        def rounded(target: Tensor, metric: Metric, grid: Grid) -> Tensor:
            return gptq(jump(target, first, wanted, metric, grid), metric, grid)

        grid = None if self.bits == UNROUNDED else method_grid(self, weight, metric)
        return round_target(self, target, metric, rounded, anchor=0.0, grid=grid)


def jump(target: Tensor, first: int, wanted: Tensor, metric: Metric, grid: Grid) -> Tensor:
    """`target` (out, in) with column `first` on the grid, nearest to `wanted` (out,), and the rest's optimum then."""
    start = target.clone()
    start[:, first] = wanted
    rounded = grid.decode(grid.encode(start))[:, first]
    order = slice(None) if metric.order is None else metric.order
    spread = (metric.upper[0] / metric.upper[0, 0]).to(target.dtype)
    start[:, order] = target[:, order] + (rounded - target[:, first]).outer(spread)
    start[:, first] = rounded
    return start
