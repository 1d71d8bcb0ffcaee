"""Simple average: the mean of the experts' parameters (Wortsman et al. 2022, "Model soups", uniform soup)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmqbench.merging.base import MERGERS, Merger, MergeTensor

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@MERGERS.register("simple_average")
@dataclass(frozen=True, kw_only=True)
class SimpleAverage(Merger):
    """merged = 1/n sum_e expert_e."""

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand: the mean of a tensor needs that tensor alone."""

        def merge_tensor(name: str) -> torch.Tensor:
            total = models.zeros(name)
            for expert in range(len(models.labels)):
                total += models.expert(expert, name)
            return total / len(models.labels)

        return merge_tensor
