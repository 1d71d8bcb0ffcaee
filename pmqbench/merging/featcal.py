"""FeatCal: a merged model calibrated to its experts' features, in closed form (arXiv 2605.13030).

From Task Arithmetic on, block by block, with the statistics of all its layers taken before any of them changes; x is a layer's
input in the merged model, y in expert t (its own forward pass), x~ = alpha y + (1 - alpha) x, S_t = E x x^T, f_t = |S_t|_F, and
an anchor index a stands for rho * merged + (1 - rho) * base:

    linear   W = (sum_t W_t E[x~ x^T] / f_t + lambda W_a) (sum_t S_t / f_t + lambda I)^-1
    bias     b = (sum_t (b_t + W_t E x~ - W E x) / f_t + lambda b_a) / (sum_t 1 / f_t + lambda)
    norm     (g, b) per channel = argmin sum_t E (g z + b - g_t z - b_t)^2 + lambda ((g - g_a)^2 + (b - b_a)^2), z the
             normalised input

In the last block of a vision tower, tokens other than the class token weigh 0.01, but for k and v. Embeddings, and the norms
before and behind all blocks, stay those of Task Arithmetic. Defaults are the authors' code's (egangu/featcal, `src/featcal`),
which adds 1e-8 to lambda in the linear layers' matrix; the paper's text has rho 2.0 and alpha 0.3.

It is E-PMQ without rounding: `quantization/methods/epmq.py` with the options below. T5's norms have no bias; BERT's stand
behind the residual sum and not before linear layers, and stay as merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pmqbench.merging.base import MERGERS, CalibratedMerger, Coefficient, Merger

if TYPE_CHECKING:
    from pmqbench.quantization.base import Quantizer


@MERGERS.register("featcal")
@dataclass(frozen=True, kw_only=True)
class FeatCal(CalibratedMerger):
    """Task Arithmetic, then weights, biases and norms in closed form (the module's docstring has the formulas)."""

    start_scaling: Annotated[Coefficient, Field(description="Scaling of the Task Arithmetic that is calibrated.")] = 0.3
    anchor: Annotated[float, Field(ge=0, description="lambda: pull of all parameters to the anchor point.")] = 0.05
    rho: Annotated[
        float, Field(ge=0, le=10, description="The anchor point is rho merged + (1 - rho) base: above 1 beyond the merge.")
    ] = 2.2
    alpha: Annotated[float, Field(ge=0, le=1, description="Share of the experts' own inputs in the target's.")] = 0.25

    def first(self) -> Merger:
        """Task Arithmetic."""
        from pmqbench.merging.task_arithmetic import TaskArithmetic

        return TaskArithmetic(scaling=self.start_scaling)

    def solver(self) -> Quantizer:
        """E-PMQ without rounding."""
        from pmqbench.quantization.methods.epmq import Epmq

        return Epmq(
            bits=16,
            calibration_samples=self.calibration_samples,
            sequential="block",
            last_block_tokens="class",
            target_inputs="mix",
            alpha=self.alpha,
            anchor=self.anchor,
            anchor_unit="frobenius",
            rho=self.rho,
            fit_bias=True,
            bias_anchor=self.anchor,
            fit_norms=True,
            norm_anchor=self.anchor,
            norm_fit="joint",
        )
