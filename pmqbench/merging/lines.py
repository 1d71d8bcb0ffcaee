"""LiNeS: task vectors scaled by depth (Wang et al. 2025, "LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances
Model Merging", 2410.17146).

With tau the unscaled merged task vector of `of`, for a tensor of block l = 0 ... L - 1 of a stack of L:

    merged = base + (a + b l / (L - 1)) tau       b is `scaling`
    merged = base + a tau                         for tensors outside of blocks
    a = |sum_t tau_t|_1 / |tau|_1 / T             norms over the whole model; 1 / T for Task Arithmetic

The authors' code (wang-kee/LiNeS, `src/eval/eval.py`) takes that a and chooses b on labelled validation splits, from 0.1 to
1.0, or 1.5 for TIES: there is no b that needs none. 0.5 lies in the middle; `tune_scaling` chooses b as the authors do.

Stacks are where linear layers are numbered ("encoder.layers.3"), so that T5's encoder and decoder count apart.

Passes over the experts: those of `of`, and for TIES without `first` as many once more for the norms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pmqbench.merging.base import MERGERS, Coefficient, Merger, MergeTensor
from pmqbench.merging.task_arithmetic import TaskArithmetic
from pmqbench.merging.ties import Ties

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models

BLOCK = re.compile(r"(.+?)\.(\d+)\.")


@MERGERS.register("lines")
@dataclass(frozen=True, kw_only=True)
class Lines(Merger):
    """Task Arithmetic or TIES, the later a block the stronger."""

    affine_in_scaling: ClassVar[bool] = True

    scaling: Annotated[
        Coefficient, Field(description="How much larger the factor of a stack's last block is than that of its first.")
    ] = 0.5
    first: Annotated[
        Coefficient | None,
        Field(description="Factor of a stack's first block and of all tensors outside of blocks; null: the paper's."),
    ] = None
    of: Annotated[
        Literal["task_arithmetic", "ties"],
        Field(description="Merge whose task vector is scaled; its own options are the defaults."),
    ] = "task_arithmetic"

    def start(self, models: Models) -> MergeTensor:
        """Makes the passes of `of`, and finds the first block's factor."""
        merge_tensor = (Ties if self.of == "ties" else TaskArithmetic)(scaling=1.0).start(models)

        def change(name: str) -> torch.Tensor:
            return merge_tensor(name) - models.base(name)

        first = self._first(models, change) if self.first is None else self.first
        depth = relative_depth(models.linear)
        return lambda name: models.base(name) + (first + self.scaling * depth(name)) * change(name)

    def _first(self, models: Models, change: Callable[[str], torch.Tensor]) -> float:
        if self.of == "task_arithmetic":
            return 1 / len(models.labels)
        summed = TaskArithmetic(scaling=1.0).start(models)
        plain = sum(float((summed(name) - models.base(name)).abs().sum()) for name in models.names)
        merged = sum(float(change(name).abs().sum()) for name in models.names)
        return plain / merged / len(models.labels) if merged else 0.0


def relative_depth(linear: Collection[str]) -> Callable[[str], float]:
    """Function from a tensor's name to where its block stands in its stack: 0 for the first (or only) one, 1 for the last.

    Args:
        linear: names of the weights of linear layers, by which stacks are known.
    """
    blocks = [match.groups() for match in map(BLOCK.match, linear) if match]
    last: dict[str, int] = {}
    for stack, index in blocks:
        last[stack] = max(last.get(stack, 0), int(index))

    def depth(name: str) -> float:
        match = BLOCK.match(name)
        return int(match[2]) / max(1, last[match[1]]) if match and match[1] in last else 0.0

    return depth
