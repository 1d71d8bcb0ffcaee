"""Model Breadcrumbs: task vectors without their largest and their small entries (Davari and Belilovsky 2023, "Model
Breadcrumbs: Scaling multi-task model merging with sparse masks", arXiv 2312.06795).

    merged = base + sum_e s_e mask_e delta_e

The mask is made row by row, a row being a tensor's last dimension of n entries (a vector is one row): the int(remove n) largest
magnitudes go as outliers, of what is left the int(keep n) largest stay, all others go. Of equal magnitudes the first count as
larger; scalars stay. As the authors' `TaskVectorMiddleKeep`, with the values the paper found best for CLIP-ViT-B/32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from pmqbench.merging.base import MERGERS, Merger, MergeTensor, Scaling
from pmqbench.merging.selection import largest
from pmqbench.merging.task_arithmetic import TaskArithmetic

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@MERGERS.register("breadcrumbs")
@dataclass(frozen=True, kw_only=True)
class Breadcrumbs(Merger):
    """Task Arithmetic of masked task vectors (the module's docstring has the mask)."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Scaling = 1.0
    keep: Annotated[
        float, Field(gt=0, le=1, description="Share of a row's entries that stay: the largest but the removed.")
    ] = 0.1
    remove: Annotated[float, Field(ge=0, lt=1, description="Share of a row's entries, the largest, that go as outliers.")] = (
        0.01
    )

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand: a mask needs its row alone."""
        return TaskArithmetic(scaling=self.scaling).start(models.changed(lambda expert, name, delta: self._masked(delta)))

    def _masked(self, delta: torch.Tensor) -> torch.Tensor:
        if delta.dim() == 0:
            return delta
        row = delta.shape[-1]
        delta = delta.masked_fill(largest(delta, int(self.remove * row)), 0)
        return delta * largest(delta, int(self.keep * row))
