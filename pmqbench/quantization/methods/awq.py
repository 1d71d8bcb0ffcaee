"""AWQ of the merged model: Lin et al., arXiv 2306.00978."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from pmqbench.quantization.base import QUANTIZERS, CalibratedQuantizer, Sampling

if TYPE_CHECKING:
    from pmqbench.families.base import Block
    from pmqbench.quantization.problem import Problem, Solution
    from pmqbench.quantization.run import Run


@QUANTIZERS.register("awq")
@dataclass(frozen=True, kw_only=True)
class Awq(CalibratedQuantizer):
    """(W_merged with scales folded in, no metric), solver nearest on clipped ranges; inputs from the full-precision prefix."""

    parallel: ClassVar[bool] = True

    search_samples: Annotated[
        int, Field(ge=1, description="Samples a task (of its first batch) that the search for scales runs through each block.")
    ] = 8
    clip: Annotated[
        bool, Field(description="Shrink ranges to the least output error, except for attention's q and k; else range_search.")
    ] = True

    def sampling(self) -> Sampling:
        """Mean magnitudes of the inputs at full precision, and a few samples for the search."""
        return Sampling(sequential="none", absolute=True, probe_samples=self.search_samples, precision=self.forward_precision)

    def rescale(self, run: Run, block: Block, problems: list[Problem]) -> None:
        """Folds the scales that lose least of the block's output."""
        from pmqbench.quantization.awq import fold_best_scales

        fold_best_scales(run, self, block, problems)

    def solve(self, problem: Problem) -> Solution:
        """Rounds the scaled weights to nearest, on ranges clipped where that loses less of the output."""
        from pmqbench.quantization.awq import clipped_grid
        from pmqbench.quantization.base import UNROUNDED
        from pmqbench.quantization.solvers import round_target

        grid = clipped_grid(self, problem) if self.clip and self.bits != UNROUNDED else None
        return round_target(self, problem.weight, None, "nearest", grid=grid)
