"""E-PMQ: expert-guided post-merge quantization with merged-weight anchoring, arXiv 2605.16882.

The experts' outputs are the target, the merged weights an anchor; the quadratic problem's minimiser is rounded by GPTQ's solver
in the anchored metric. All ablations are options: see docs/quantization.md. FeatCal (arXiv 2605.13030) is this method at 16
bits with the options that `pmqbench/merging/featcal.py` sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pmqbench.quantization.base import QUANTIZERS, Sampling, SolverQuantizer

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.families.base import Block, Group
    from pmqbench.quantization.moments import Moments
    from pmqbench.quantization.problem import Problem, Solution
    from pmqbench.quantization.run import Run


@QUANTIZERS.register("epmq")
@dataclass(frozen=True, kw_only=True)
class Epmq(SolverQuantizer):
    """(W*, H + anchor), solver gptq."""

    uses_experts: ClassVar[bool] = True
    parallel: ClassVar[bool] = True

    anchor: Annotated[
        float, Field(ge=0, description="lambda: weight of mean(diag(H)) |Q - W_merged|^2; it is the metric's damping too.")
    ] = 0.1
    anchor_unit: Annotated[
        Literal["mean_diag", "frobenius"],
        Field(
            description="mean_diag: anchors are shares of mean(diag(H)), and of E z^2 of norms; frobenius: absolute, beside "
            "task weights 1 / |H_t| (norms: 1) that are not rescaled to sum 1, as FeatCal's."
        ),
    ] = "mean_diag"
    rho: Annotated[
        float, Field(ge=0, le=10, description="The anchors lie at rho merged + (1 - rho) base: 1 at the merged weights.")
    ] = 1.0
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
    norm_fit: Annotated[
        Literal["first", "joint"],
        Field(
            description="first: norms before their layers' inputs are taken, towards the target's inputs; joint: from the same "
            "states as the layers, towards the experts' parameters on this model's inputs, tokens weighing as in the layers."
        ),
    ] = "first"

    @property
    def uses_base(self) -> bool:
        """The anchors lie beyond the merged weights, seen from the base."""
        return self.rho != 1

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
            norms="after" if self.norm_fit == "joint" else "before",
            precision=self.forward_precision,
        )

    def refit_norm(self, run: Run, block: Block, group: Group) -> dict[str, Tensor]:
        """The norm fitted to the experts' with `fit_norms`."""
        if not self.fit_norms or group.norm is None:
            return {}
        from pmqbench.quantization.corrections import NormFit, refit_norm

        relative, joint = self.anchor_unit == "mean_diag", self.norm_fit == "joint"
        fit = NormFit(
            anchor=self.norm_anchor if relative else self.norm_anchor / len(run.tasks),
            rho=self.rho,
            relative=relative,
            share=0.0 if joint else self.teacher_share,
            class_tokens=joint and self.last_block_tokens == "class",
        )
        return refit_norm(run, block, group, fit)

    def solve(self, problem: Problem) -> Solution:
        """Rounds the quadratic problem's minimiser in the anchored metric; fits biases with `fit_bias`."""
        from pmqbench.quantization.corrections import blend, fitted_bias
        from pmqbench.quantization.metric import factorise
        from pmqbench.quantization.solvers import round_target
        from pmqbench.quantization.targets import teacher_target

        moments = problem.moments
        known = {"where": problem.where, "tokens": moments.tokens, "act_order": self.act_order}
        anchor = self._share_of_diagonal(moments)
        pull = None if problem.base is None else (self.rho - 1) * (problem.merged - problem.base.weight)
        metric = factorise(moments.second, anchor, **known)
        target = teacher_target(problem.weight, moments.cross, metric, anchor, pull)
        damped = factorise(moments.second, anchor + self.damping, **known) if self.damping else metric
        solution = round_target(self, target, damped, self.solver, anchor=anchor)
        solution.pull = pull
        if damped is not metric and metric.remedy:
            solution.remedies.insert(0, f"target: {metric.remedy}")
        if self.fit_bias and problem.bias is not None:
            point = blend(problem.bias, problem.base and problem.base.bias, self.rho)
            strength = self.bias_anchor if self.anchor_unit == "mean_diag" else self.bias_anchor / moments.total
            solution.bias = fitted_bias(solution.weight, point, moments, strength)
        return solution

    def _share_of_diagonal(self, moments: Moments) -> float:
        """The anchor as a share of mean(diag(H)), H being rescaled to task weights of sum 1."""
        mu = float(moments.second.diagonal().double().mean())
        return self.anchor if self.anchor_unit == "mean_diag" or mu == 0 else self.anchor / (moments.total * mu)
