"""What RegMean and RegMean++ share: linear layers whose outputs are the experts' in least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pmqbench.quantization.base import CalibratedQuantizer, Sampling

if TYPE_CHECKING:
    from pmqbench.quantization.problem import Problem, Solution


@dataclass(frozen=True, kw_only=True)
class Regression(CalibratedQuantizer):
    """W = (sum_t W_t G_t) (sum_t G_t)^-1, G_t a task's second moment with its off-diagonal entries shrunk.

    Written as W_start + (sum_t (W_t - W_start) G_t) (sum_t G_t)^-1: what is lost where the sum is singular and its diagonal has
    to be raised, or where an input is always zero, is left as at the start.

    Attributes:
        inputs: whose inputs G_t is of, as in `Sampling`.
        off_diagonal: factor of G_t's entries off the diagonal.
    """

    parallel: ClassVar[bool] = True

    inputs: Literal["expert", "expert_block"]
    off_diagonal: float

    def sampling(self) -> Sampling:
        """Second moments of the inputs in the experts, which count alike."""
        return Sampling(
            sequential="block",
            task_weight="uniform",
            teacher="experts",
            inputs=self.inputs,
            off_diagonal=self.off_diagonal,
            precision=self.forward_precision,
        )

    def solve(self, problem: Problem) -> Solution:
        """The weights of least squares."""
        from pmqbench.quantization.metric import factorise
        from pmqbench.quantization.solvers import round_target
        from pmqbench.quantization.targets import corrected_target

        metric = factorise(problem.moments.second, 0.0, where=problem.where)
        target = corrected_target(problem.weight, problem.moments.cross, metric)
        return round_target(self, target, metric, "nearest")
