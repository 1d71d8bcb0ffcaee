"""E-PMQ: expert-guided post-merge quantization with merged-weight anchoring, arXiv 2605.16882.

The experts' outputs are the target, the merged weights an anchor; the quadratic problem's minimiser is rounded by GPTQ's solver
in the anchored metric. All ablations are options: see docs/quantization.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pmqbench.quantization.base import QUANTIZERS, Sampling, SolverQuantizer

if TYPE_CHECKING:
    from pmqbench.families.base import Block, Group
    from pmqbench.quantization.calibrate import Run
    from pmqbench.quantization.problem import Problem, Solution


@QUANTIZERS.register("epmq")
@dataclass(frozen=True, kw_only=True)
class Epmq(SolverQuantizer):
    """(W*, H + anchor), solver gptq."""

    uses_experts: ClassVar[bool] = True

    anchor: Annotated[
        float, Field(ge=0, description="lambda: weight of mean(diag(H)) |Q - W_merged|^2; it is the metric's damping too.")
    ] = 0.1
    damping: Annotated[
        float, Field(ge=0, le=1, description="Damping of the solver's metric beyond the anchor; for use without an anchor.")
    ] = 0.0
    task_weight: Annotated[
        Literal["frobenius", "uniform"], Field(description="Weight of a task in the objective: 1 / |H_t|, or 1.")
    ] = "frobenius"
    target_inputs: Annotated[
        Literal["student", "expert", "mix"],
        Field(description="Inputs of the experts' weights in the target: this model's, the expert's own, or a mixture."),
    ] = "student"
    alpha: Annotated[float, Field(ge=0, le=1, description="Share of the expert's own inputs in target_inputs mix.")] = 0.3
    solver: Annotated[Literal["gptq", "nearest"], Field(description="Rounding of the target.")] = "gptq"
    fit_bias: Annotated[bool, Field(description="Refit biases so that mean outputs are the experts'.")] = False
    bias_anchor: Annotated[float, Field(ge=0, description="Pull of a refitted bias towards the merged one.")] = 0.1
    fit_norms: Annotated[bool, Field(description="Refit the affine parameters of the norms before linear layers.")] = False
    norm_anchor: Annotated[float, Field(ge=0, description="Pull of refitted norms towards the merged ones.")] = 0.1

    @property
    def teacher_share(self) -> float:
        """Share of the expert's own inputs in the target."""
        return {"student": 0.0, "expert": 1.0, "mix": self.alpha}[self.target_inputs]

    def sampling(self) -> Sampling:
        """Second moments, and cross moments with every task's expert."""
        return Sampling(
            sequential=self.sequential,
            task_weight=self.task_weight,
            class_tokens=self.last_block_tokens == "class",
            teacher="experts",
            teacher_share=self.teacher_share,
            precision=self.forward_precision,
        )

    def refit_norm(self, run: Run, block: Block, group: Group) -> None:
        """Fits the norm to the experts' with `fit_norms`."""
        if self.fit_norms and group.norm is not None:
            from pmqbench.quantization.corrections import refit_norm

            refit_norm(run, block, group, self.norm_anchor)

    def solve(self, problem: Problem) -> Solution:
        """Rounds the quadratic problem's minimiser in the anchored metric; fits biases with `fit_bias`."""
        from pmqbench.quantization.corrections import fitted_bias
        from pmqbench.quantization.metric import factorise
        from pmqbench.quantization.solvers import round_target
        from pmqbench.quantization.targets import teacher_target

        moments = problem.moments
        known = {"where": problem.where, "tokens": moments.tokens, "act_order": self.act_order}
        metric = factorise(moments.second, self.anchor, **known)
        target = teacher_target(problem.weight, moments.cross, metric, self.anchor)
        damped = factorise(moments.second, self.anchor + self.damping, **known) if self.damping else metric
        solution = round_target(self, target, damped, self.solver, anchor=self.anchor)
        if damped is not metric and metric.remedy:
            solution.remedies.insert(0, f"target: {metric.remedy}")
        if self.fit_bias and problem.bias is not None:
            solution.bias = fitted_bias(solution.weight, problem.bias, moments, self.bias_anchor)
        return solution
