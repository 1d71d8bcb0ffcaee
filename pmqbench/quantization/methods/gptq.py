"""GPTQ of the merged model: Frantar et al., arXiv 2210.17323."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pmqbench.quantization.base import QUANTIZERS, Sampling, SolverQuantizer

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.quantization.metric import Metric
    from pmqbench.quantization.problem import Problem, Solution


@QUANTIZERS.register("gptq")
@dataclass(frozen=True, kw_only=True)
class Gptq(SolverQuantizer):
    """(W_merged, H + damping), solver gptq."""

    parallel: ClassVar[bool] = True

    solver: ClassVar[Literal["gptq"]] = "gptq"

    damping: Annotated[float, Field(ge=0, le=1, description="Share of mean(diag(H)) added to H before it is inverted.")] = 0.01
    task_weight: Annotated[
        Literal["tokens", "uniform", "frobenius"],
        Field(description="Weight of a task's second moment: tokens pools all tokens, uniform 1, frobenius 1 / |H_t|."),
    ] = "tokens"

    def sampling(self) -> Sampling:
        """Second moments of the inputs alone."""
        return Sampling(
            sequential=self.sequential,
            task_weight=self.task_weight,
            class_tokens=self.last_block_tokens == "class",
            precision=self.forward_precision,
        )

    def solve(self, problem: Problem) -> Solution:
        """Rounds the merged weights."""
        return self.rounded(problem, problem.weight, anchor=self.damping)

    def metric(self, problem: Problem) -> Metric:
        """The damped second moment, factorised."""
        from pmqbench.quantization.metric import factorise

        moments = problem.moments
        return factorise(moments.second, self.damping, where=problem.where, tokens=moments.tokens, act_order=self.act_order)

    def rounded(self, problem: Problem, target: Tensor, anchor: float) -> Solution:
        """GPTQ's rounding of `target` (out, in); columns of dead inputs become zero. `anchor` as in Solution."""
        from pmqbench.quantization.solvers import round_target

        live = problem.moments.second.diagonal() != 0
        return round_target(self, target * live, self.metric(problem), self.solver, anchor=anchor)
