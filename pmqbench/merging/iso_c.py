"""Iso-C: Task Arithmetic with all singular values made equal (Marczak et al. 2025, "No Task Left Behind", 2502.04959).

For the weight of a linear layer, (out, in), with task vectors tau_t and scalings s_t:

    sum_t s_t tau_t = U diag(sigma) V
    merged = base + mean(sigma) U V               mean over all min(out, in) singular values

All other tensors: base + mean_t s_t tau_t, which a scaling above 1 overshoots, as in the authors' code
(danielm1405/iso-merging, `src/utils/iso.py`). Singular values that are zero enter the mean, but the arbitrary vectors of theirs
take no part.

One pass, one decomposition a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pmqbench.merging.base import MERGERS, Merger, MergeTensor, Scaling
from pmqbench.merging.spectral import Deltas, leading, merge_matrices, total

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@MERGERS.register("iso_c")
@dataclass(frozen=True, kw_only=True)
class IsoC(Merger):
    """Every direction of the summed task vectors at their mean strength."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Scaling = 1.0

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand: a tensor's singular values need that tensor alone."""

        def change(deltas: Deltas) -> torch.Tensor:
            summed = total(deltas)
            rank = min(summed.shape)
            left, values, right = leading(summed, rank)
            return values.sum() / rank * left @ right

        return merge_matrices(models, self.scaling, change)
