"""Task Arithmetic: base plus scaled sum of task vectors (Ilharco et al. 2023, "Editing models with task arithmetic")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pmqbench.merging.base import MERGERS, Merger, MergeTensor, Scaling, per_expert

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@MERGERS.register("task_arithmetic")
@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(Merger):
    """merged = base + sum_e s_e (expert_e - base)."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Scaling = 0.3

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand: a tensor's task vectors need that tensor alone."""
        scalings = per_expert(self.scaling, len(models.labels))

        def merge_tensor(name: str) -> torch.Tensor:
            merged = models.base(name).double()
            for expert, scaling in enumerate(scalings):
                merged.add_(models.delta(expert, name), alpha=scaling)
            return merged

        return merge_tensor
