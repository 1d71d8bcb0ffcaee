"""DARE: drop random entries of the task vectors and rescale the rest, then merge (Yu et al. 2023, "Language models are super
Mario", arXiv 2311.03099).

    delta'_e = delta_e / (1 - p) where an entry is kept, with probability 1 - p, else 0
    merged   = Task Arithmetic or TIES of the delta'

The expectation of delta' is delta: with Task Arithmetic the merge is Task Arithmetic plus noise. Drop rate and scaling are
FusionBench's (`method/dare`); its TIES variant scales by 0.5. Draws are seeded by `seed`, the expert's place in the list and
the tensor's name: neither the order nor the number of tensors, nor how often one is read, changes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pmqbench.merging.base import MERGERS, Merger, MergeTensor, Scaling
from pmqbench.merging.task_arithmetic import TaskArithmetic
from pmqbench.merging.ties import Ties

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@MERGERS.register("dare")
@dataclass(frozen=True, kw_only=True)
class Dare(Merger):
    """Task Arithmetic or TIES of randomly thinned task vectors (the module's docstring has the formulas)."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Scaling = 0.3
    drop_rate: Annotated[float, Field(ge=0, lt=1, description="Probability p of an entry to be dropped.")] = 0.5
    of: Annotated[Literal["task_arithmetic", "ties"], Field(description="What merges the thinned task vectors.")] = (
        "task_arithmetic"
    )
    density: Annotated[
        float, Field(gt=0, le=1, description="With `ties`: share of a task vector's entries, dropped ones included, that stay.")
    ] = 0.2
    seed: Annotated[int, Field(ge=0, description="Seed of the draws.")] = 0

    def start(self, models: Models) -> MergeTensor:
        """Starts the base method on the thinned task vectors."""
        if self.of == "ties":
            method: Merger = Ties(scaling=self.scaling, density=self.density)
        else:
            method = TaskArithmetic(scaling=self.scaling)
        return method.start(models.changed(self._thinned))

    def _thinned(self, expert: int, name: str, delta: torch.Tensor) -> torch.Tensor:
        import torch

        digest = hashlib.sha256(f"{self.seed}/{expert}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:4]))  # of a seed torch's CPU generator takes 32 bits
        kept = torch.rand(delta.shape, generator=generator) >= self.drop_rate
        return delta * kept / (1 - self.drop_rate)
