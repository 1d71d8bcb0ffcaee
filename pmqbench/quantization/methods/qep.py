"""QEP, quantization error propagation (arXiv 2504.09629): GPTQ of a target that makes up for errors of the layers before.

W + correction * W E[(x_full - x) x^T] H^-1, x_full the inputs in the merged model at full precision: E-PMQ's target with the
merged model as teacher, its own inputs mixed in by `correction`, and the damping as anchor.
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

    def sampling(self) -> Sampling:
        """See Quantizer."""
        from dataclasses import replace

        return replace(super().sampling(), teacher="merged", teacher_share=self.correction)

    def solve(self, problem: Problem) -> Solution:
        """See Quantizer."""
        from pmqbench.quantization.metric import factorise
        from pmqbench.quantization.solvers import round_target
        from pmqbench.quantization.targets import teacher_target

        moments = problem.moments
        metric = factorise(moments.second, self.damping, where=problem.where, tokens=moments.tokens, act_order=self.act_order)
        target = teacher_target(problem.weight, moments.cross, metric, self.damping)
        return round_target(self, target, metric, "gptq", anchor=self.damping)
