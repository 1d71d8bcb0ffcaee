"""MagMax: of every parameter the change of largest magnitude (Marczak et al. 2024, "MagMax: Leveraging model merging for
seamless continual learning", arXiv 2407.06322).

    merged = base + scaling * delta_m,   m = argmax_e |delta_e|, entry by entry; of equal magnitudes the last expert's

As FusionBench's `method/magmax`, scaling included. The paper merges experts tuned one after another; independent ones, as here,
gain less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from pmqbench.merging.base import MERGERS, Coefficient, Merger, MergeTensor

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@MERGERS.register("magmax")
@dataclass(frozen=True, kw_only=True)
class MagMax(Merger):
    """merged = base + scaling * the task vectors' entries of largest magnitude."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Annotated[Coefficient, Field(description="Factor of the chosen entries.")] = 0.5

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand: a tensor's task vectors need that tensor alone."""
        import torch

        def merge_tensor(name: str) -> torch.Tensor:
            chosen = models.delta(0, name)
            for expert in range(1, len(models.labels)):
                delta = models.delta(expert, name)
                chosen = torch.where(delta.abs() >= chosen.abs(), delta, chosen)
            return chosen.double().mul_(self.scaling).add_(models.base(name))

        return merge_tensor
