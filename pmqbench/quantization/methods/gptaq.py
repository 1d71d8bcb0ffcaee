"""GPTAQ, GPTQ with asymmetric calibration: Li et al., arXiv 2504.02692.

x are the inputs of the model as quantized so far, x_f those at full precision. With D = E[(x_f - x) x^T],
U^T U = (H + damping)^-1 and P = alpha triu(D U^T, 1) U, column j of the weight as it then is, w_j, is rounded to q_j, and
W_k -= (w_j - q_j) U_jk / U_jj - w_j P_jk for all k > j: GPTQ's step, and a share of what the layers before lost. The official
code's update between blocks of columns takes q_j for w_j in the last term; here w_j holds throughout, as within its blocks.
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


@QUANTIZERS.register("gptaq")
@dataclass(frozen=True, kw_only=True)
class Gptaq(Gptq):
    """(W_merged (I - P)^-1, H + damping), solver gptq with P in its feedback."""

    alpha: Annotated[float, Field(gt=0, le=1, description="Share of the earlier layers' errors to make up for.")] = 0.25

    def sampling(self) -> Sampling:
        """GPTQ's, and alpha D."""
        from dataclasses import replace

        return replace(super().sampling(), teacher="merged", teacher_share=self.alpha, shift=True)

    def solve(self, problem: Problem) -> Solution:
        """Rounds the merged weights on their own grid."""
        from pmqbench.quantization.base import UNROUNDED
        from pmqbench.quantization.solvers import method_grid, round_target, round_with_feedback

        metric = self.metric(problem)
        weight = problem.weight * (problem.moments.second.diagonal() != 0)
        target, feedback = asymmetric(weight, problem.moments.shift, metric)

        def rounded(target: Tensor, metric: Metric, grid: Grid) -> Tensor:
            return round_with_feedback(target, feedback, metric.order, grid)

        grid = None if self.bits == UNROUNDED else method_grid(self, weight, metric)
        return round_target(self, target, metric, rounded, anchor=self.damping, grid=grid)


def asymmetric(weight: Tensor, shift: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
    """GPTAQ as rounding with feedback: the target (out, in), and the feedback (in, in) in the metric's order.

    Before column k is rounded it is w_k - sum_j (e_j S_jk - w_j P_jk), e the rounding errors and S = U_jk / U_jj above the
    diagonal. So the columns are W (I - P)^-1 - E S (I - P)^-1.

    Args:
        weight: W (out, in).
        shift: alpha D (in, in).
        metric: factorised H + damping.
    """
    import torch

    order = slice(None) if metric.order is None else metric.order
    upper = metric.upper
    rest = -(shift.double()[order][:, order] @ upper.T).triu(1) @ upper  # I - P above its diagonal

    def solved(left: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(rest, left, upper=True, left=False, unitriangular=True)

    target = torch.empty_like(weight)
    target[:, order] = solved(weight.double()[:, order]).to(weight.dtype)
    feedback = solved((upper / upper.diagonal()[:, None]).triu(1))
    feedback.diagonal().fill_(1)
    return target, feedback
