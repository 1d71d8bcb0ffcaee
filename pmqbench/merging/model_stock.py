"""Model Stock: the experts' mean, drawn towards the base as far as they disagree (Jang et al. 2024, "Model Stock: All we need
is just a few fine-tuned models", arXiv 2403.19522).

    c      = mean over the pairs of experts of the cosine between their task vectors, tensor by tensor
    r      = n c / ((n - 1) c + 1)
    merged = base + r * mean_e delta_e

As mergekit's `model_stock` (where the mean cosine of more than two experts comes from), but for a negative c: there the merge
moves away from the experts, without bound as c nears -1 / (n - 1); here the tensor stays the base's. A task vector of zeros is
at right angles to all others. One expert is its own merge. Made for experts of one task: those of different tasks have
cosines near 0, and the merge stays close to the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmqbench.merging.base import MERGERS, Merger, MergeTensor

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@MERGERS.register("model_stock")
@dataclass(frozen=True, kw_only=True)
class ModelStock(Merger):
    """merged = base + r * mean task vector, r from the task vectors' mean cosine, tensor by tensor."""

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand: a tensor's cosines need that tensor alone."""
        experts = len(models.labels)

        def merge_tensor(name: str) -> torch.Tensor:
            total, directions, nonzero = models.zeros(name), models.zeros(name), 0
            for expert in range(experts):
                delta = models.delta(expert, name).double()
                total += delta
                norm = float(delta.norm())
                if norm > 0:
                    directions += delta / norm
                    nonzero += 1
            # ||sum of unit vectors||^2 = their number + the cosines of all ordered pairs
            cosine = (float(directions.square().sum()) - nonzero) / (experts * (experts - 1)) if experts > 1 else 1.0
            cosine = min(max(cosine, 0.0), 1.0)
            ratio = experts * cosine / ((experts - 1) * cosine + 1)
            return total.mul_(ratio / experts).add_(models.base(name))

        return merge_tensor
