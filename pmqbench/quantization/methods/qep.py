"""QEP, quantization error propagation (arXiv 2504.09629): GPTQ of a target that makes up for errors of the layers before.

W + correction * W E[(x_full - x) x^T] (H + correction_damping mu I)^-1, x_full the inputs at full precision,
then GPTQ. As published, the last layer of an MLP is rounded as it is, and the correction has a damping of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pmqbench.quantization.base import QUANTIZERS, Sampling
from pmqbench.quantization.methods.gptq import Gptq

if TYPE_CHECKING:
    from pmqbench.quantization.problem import Problem, Solution


@QUANTIZERS.register("qep")
@dataclass(frozen=True, kw_only=True)
class Qep(Gptq):
    """(W_merged corrected by the full-precision prefix's inputs, H + damping), solver gptq."""

    correction: Annotated[float, Field(ge=0, le=1, description="Share of the earlier layers' errors to make up for.")] = 0.5
    correction_damping: Annotated[
        float, Field(ge=0, le=1, description="Share of mean(diag(H)) added to H before the correction is solved for.")
    ] = 1.0

    def sampling(self) -> Sampling:
        """GPTQ's, and the inputs in the merged model at full precision."""
        from dataclasses import replace

        return replace(super().sampling(), teacher="merged", teacher_share=self.correction)

    def solve(self, problem: Problem) -> Solution:
        """Rounds the corrected weights; correction and rounding damp H apart."""
        from pmqbench.quantization.metric import factorise
        from pmqbench.quantization.targets import corrected_target

        if problem.group.mlp_output:
            return self.rounded(problem, problem.weight, anchor=self.correction_damping)
        moments = problem.moments
        metric = factorise(moments.second, self.correction_damping, where=problem.where, tokens=moments.tokens)
        target = corrected_target(problem.weight, moments.cross, metric)
        solution = self.rounded(problem, target, anchor=self.correction_damping)
        if metric.remedy:
            solution.remedies.insert(0, f"correction: {metric.remedy}")
        return solution
