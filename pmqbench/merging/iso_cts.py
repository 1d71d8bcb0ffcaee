"""Iso-CTS: Iso-C in common and task-specific subspaces (Marczak et al. 2025, "No Task Left Behind", 2502.04959).

For the weight of a linear layer, (out, in), with r = min(out, in), T experts, task vectors tau_t and scalings s_t:

    n = round((r - floor(f r)) / T)               directions for each task; f is `common_fraction`
    U_c, sigma_c, V_c                             the r - n T largest of sum_t s_t tau_t
    U_t, sigma_t, V_t                             the n largest of (I - U_c U_c^T) s_t tau_t
    U = [U_1 ... U_T U_c], V = [V_1; ...; V_T; V_c], sigma = [sigma_1 ... sigma_T sigma_c]
    merged = base + mean(sigma) P(U) P(V)         P: the polar factor; mean over all r singular values

All other tensors: base + mean_t s_t tau_t. The authors' code is danielm1405/iso-merging, `src/utils/iso.py`. Singular values
that are zero enter the mean, but the arbitrary vectors of theirs take no part. n T is kept within r; where experts are so many
that n is 0, this is Iso-C.

Two passes; T + 3 decompositions a matrix, in memory U and V, which are no larger for more experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from pmqbench.merging.base import MERGERS, Merger, MergeTensor, Scaling
from pmqbench.merging.spectral import Deltas, isometry, leading, merge_matrices, total

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@MERGERS.register("iso_cts")
@dataclass(frozen=True, kw_only=True)
class IsoCts(Merger):
    """Directions of the sum and directions of each task that the sum lacks, all at their mean strength."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Scaling = 1.0
    common_fraction: Annotated[
        float, Field(ge=0, le=1, description="Share of a matrix's singular directions that all tasks have in common.")
    ] = 0.8

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand: a tensor's subspaces need that tensor alone."""
        import torch

        tasks = len(models.labels)

        def change(deltas: Deltas) -> torch.Tensor:
            summed = total(deltas)
            rank = min(summed.shape)
            each = min(round((rank - int(self.common_fraction * rank)) / tasks), rank // tasks)
            common = leading(summed, rank - each * tasks)
            basis = common[0]
            own = [leading(d - basis @ (basis.T @ d), each, size=float(d.norm())) for d in deltas()] if each else []
            lefts, values, rights = zip(*own, common, strict=True)
            mean = torch.cat(values).sum() / rank
            return mean * isometry(torch.cat(lefts, dim=1)) @ isometry(torch.cat(rights))

        return merge_matrices(models, self.scaling, change)
