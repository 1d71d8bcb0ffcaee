"""RegMean: linear layers whose outputs are, in least squares, the experts' on their own inputs (Jin et al. 2023, "Dataless
knowledge fusion by merging weights of language models", arXiv 2212.09849).

With X_t the inputs (tokens, in) that a linear layer has in expert t on samples of its task, per token:

    G_t = X_t^T X_t / tokens, entries off its diagonal times a
    W   = (sum_t W_t G_t) (sum_t G_t)^-1

All other tensors, biases among them: the experts' mean. Where sum_t G_t is singular, W is W_mean + (sum_t (W_t - W_mean) G_t)
(sum_t G_t + d mu I)^-1 with the least damping d that makes it regular; a below 1 nearly always does. a = 0.95 is what
FusionBench takes for CLIP (`method/regmean`), 0.6 for GPT-2.

The experts' forward passes alone are needed, block by block; of second moments one task's and the sum are held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pmqbench.merging.base import MERGERS, CalibratedMerger, Merger

if TYPE_CHECKING:
    from pmqbench.quantization.base import Quantizer


@MERGERS.register("regmean")
@dataclass(frozen=True, kw_only=True)
class RegMean(CalibratedMerger):
    """Regression of the experts' outputs on their own inputs."""

    off_diagonal: Annotated[
        float, Field(ge=0, le=1, description="Factor a of the second moments' entries off the diagonal.")
    ] = 0.95

    def first(self) -> Merger:
        """The experts' mean, which all but the linear layers' weights keep."""
        from pmqbench.merging.simple_average import SimpleAverage

        return SimpleAverage()

    def solver(self) -> Quantizer:
        """Least squares on the experts' own inputs."""
        from pmqbench.merging.regression import Regression

        return Regression(
            bits=16, calibration_samples=self.calibration_samples, inputs="expert", off_diagonal=self.off_diagonal
        )
