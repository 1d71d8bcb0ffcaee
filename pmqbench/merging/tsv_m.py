"""TSV-M: task singular vectors, made orthogonal between tasks (Gargiulo et al. 2025, "Task Singular Vectors", 2412.00081).

For the weight of a linear layer, (out, in), and T experts with task vectors tau_t and scalings s_t:

    s_t tau_t = U_t diag(sigma_t) V_t             of it the k = floor(min(out, in) / T) largest singular values
    U = [U_1 ... U_T], sigma = [sigma_1 ... sigma_T], V = [V_1; ...; V_T]
    merged = base + P(U) diag(sigma) P(V)         P: the polar factor, i.e. the nearest orthonormal columns or rows

All other tensors: base + mean_t s_t tau_t. The authors' code (AntoAndGar/task_singular_vectors, `src/utils/TSVM_utils.py`)
tells matrices by their dimensions and decomposes embeddings of positions too; here the family says which weights are linear
layers'.

A direction that several experts have exactly in common counts once, at the mean of its strengths; vectors of singular values
that are zero, arbitrary in a decomposition, take no part. With more experts than min(out, in), k is 1.

One pass; T + 2 decompositions a matrix, in memory U and V, which are no larger for more experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pmqbench.merging.base import MERGERS, Merger, MergeTensor, Scaling
from pmqbench.merging.spectral import Deltas, isometry, leading, merge_matrices

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@MERGERS.register("tsv_m")
@dataclass(frozen=True, kw_only=True)
class TsvM(Merger):
    """Adds the experts' leading singular vectors, orthogonal to each other; the default scaling is FusionBench's."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Scaling = 1.0

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand: a tensor's singular vectors need that tensor alone."""
        import torch

        def change(deltas: Deltas) -> torch.Tensor:
            parts = [leading(delta, max(1, min(delta.shape) // len(models.labels))) for delta in deltas()]
            lefts, values, rights = zip(*parts, strict=True)
            return (isometry(torch.cat(lefts, dim=1)) * torch.cat(values)) @ isometry(torch.cat(rights))

        return merge_matrices(models, self.scaling, change)
