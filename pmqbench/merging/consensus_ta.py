"""Consensus Task Arithmetic: parameters that matter to several experts (Wang et al. 2024, "Localizing task information for
improved model merging and compression", arXiv 2405.07813; TALL masks).

    tau    = sum_e delta_e
    m_e    = |delta_e| > threshold_e |tau - delta_e|, entry by entry: the expert asks for the entry
    merged = base + scaling * tau where at least `agreement` experts ask for it, else base

The paper drops what no expert asks for ("catastrophic") and what one alone does ("selfish"). It chooses each expert's threshold
among 0.2, 0.3, .., 0.6 and the scaling by labelled validation; the defaults are the middle of the one and Task Arithmetic's
other, so that no label is needed. Fewer experts than `agreement` must all ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from pmqbench.merging.base import MERGERS, Coefficient, Merger, MergeTensor, per_expert

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models

Threshold = Annotated[float, Field(ge=0, le=10)]


@MERGERS.register("consensus_ta")
@dataclass(frozen=True, kw_only=True)
class ConsensusTA(Merger):
    """Task Arithmetic of the entries that at least `agreement` experts ask for."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Annotated[Coefficient, Field(description="Factor of the task vectors' sum.")] = 0.3
    threshold: Annotated[
        Threshold | list[Threshold],
        Field(description="How far an expert's entry must exceed the others' sum: one number, or a list with one per expert."),
    ] = 0.4
    agreement: Annotated[int, Field(ge=1, description="Number of experts that must ask for an entry.")] = 2

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand; a tensor is read twice, for the sum and for the masks."""
        import torch

        thresholds = per_expert(self.threshold, len(models.labels))
        needed = min(self.agreement, len(thresholds))

        def merge_tensor(name: str) -> torch.Tensor:
            total = models.zeros(name)
            for expert in range(len(thresholds)):
                total += models.delta(expert, name)
            asking = torch.zeros(total.shape, dtype=torch.int16)
            for expert, threshold in enumerate(thresholds):
                delta = models.delta(expert, name)
                asking += delta.abs() > threshold * (total - delta).abs()
            return total.mul_(asking >= needed).mul_(self.scaling).add_(models.base(name))

        return merge_tensor
