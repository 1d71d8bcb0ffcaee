"""Expert distillation: every expert teaches the quantized model on its own task's unlabelled samples.

With h_l,x the model's states behind block l on sample x, e_l,x those of x's own expert, f and g their pooled outputs,

    L = mean over tasks of ( block_weight mean_l E|h_l - e_l|^2 / Var(e_l) + E|f - g|^2 / Var(g) )

is minimised by AdamW over latent weights, scales, biases and norms; the model runs on its own states throughout. A weight is

    W = s round(clamp(w / s_0, low - z, high - z)),    dL/dw = dL/dW s / s_0 within the clamp (straight-through), else 0,

with z fixed, s_0 the given model's scale and w starting at its weight; Var is the variance of the expert's states around their
mean over the task's tokens. Knowledge distillation: Hinton et al., arXiv 1503.02531; straight-through rounding: Bengio et al.,
arXiv 1308.3432; learned scales: Esser et al., arXiv 1902.08153. Rates are relative to the size of what they move, so that one
set of them serves models of any scale and width of code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pmqbench.quantization.base import Precision
from pmqbench.refinement.base import REFINERS, Refiner

if TYPE_CHECKING:
    from pmqbench.refinement.engine import Refined, Start

Rate = Annotated[float, Field(ge=0, le=1)]


@REFINERS.register("distill")
@dataclass(frozen=True, kw_only=True)
class Distill(Refiner):
    """Distillation of a quantized model by its experts (the module's docstring has the formulas)."""

    parallel: ClassVar[bool] = True

    train: Annotated[
        Literal["all", "scales"], Field(description="What moves: all, or scales, biases and norms alone while codes stay.")
    ] = "all"
    steps: Annotated[int, Field(ge=1, description="Optimiser steps.")] = 400
    batch_size: Annotated[int, Field(ge=1, description="Samples a step, drawn evenly over tasks (at least one of each).")] = 16
    learning_rate: Annotated[Rate, Field(description="Of latent weights, in RMS weights of their layer.")] = 0.02
    scale_rate: Annotated[Rate, Field(description="Of scales, relative to themselves.")] = 0.002
    norm_rate: Annotated[
        Rate, Field(description="Of norms, relative to their RMS weight, and of biases, relative to their layer's RMS row.")
    ] = 0.003
    warm_up: Annotated[int, Field(ge=0, description="Steps in which rates rise linearly, before a cosine to 0.")] = 20
    block_weight: Annotated[
        float, Field(ge=0, le=100, description="Weight of the blocks' mean term against the pooled output's.")
    ] = 1.0
    held_out: Annotated[
        float, Field(ge=0, le=0.5, description="Share of the samples kept to find the best step, or that the start is best.")
    ] = 0.05
    evaluations: Annotated[int, Field(ge=1, description="How often the held-out loss is taken, evenly over the steps.")] = 8
    patience: Annotated[
        int | None, Field(ge=1, description="Stop after so many evaluations without a lower held-out loss; null: never.")
    ] = None
    forward_precision: Annotated[
        Precision, Field(description="Of forward and backward passes; latent weights stay float32.")
    ] = "float32"
    checkpointing: Annotated[
        bool,
        Field(description="Keep block inputs alone and recompute the rest in the backward pass (activation checkpointing)."),
    ] = False

    def refine(self, start: Start) -> Refined:
        """Teachers run once, then the loop."""
        from pmqbench.refinement.distillation import distill

        return distill(self, start)
