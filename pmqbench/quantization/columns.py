"""A block of columns, rounded one after the other with feedback: the inner loop of GPTQ and of coordinate descent.

Works on the transpose of a weight, in whole steps of the grid, so that a column is contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pmqbench.quantization.grid import Grid

BLOCK = 256  # columns rounded between two updates of all the others
TILE = 16  # columns between two updates of the rest of their block


@dataclass(frozen=True)
class Steps:
    """A grid in whole steps of its scale: a weight is step * scale, low <= step <= high; each (groups, out)."""

    scale: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, grid: Grid) -> Steps:
        """The steps of a grid."""
        scale = grid.scale.T.contiguous()
        zero = torch.zeros_like(scale) if grid.zero is None else grid.zero.T.contiguous()
        return cls(scale, grid.low - zero, grid.high - zero)

    def codes(self, steps: Tensor, grid: Grid) -> Tensor:
        """Codes (out, in) of whole steps (in, out), which are changed."""
        steps.view(len(self.low), -1, steps.shape[1]).sub_(self.low[:, None] - grid.low)
        return steps.to(grid.code_dtype).T.contiguous()


def blocks(width: int) -> Iterator[slice]:
    """Blocks of up to BLOCK columns."""
    for start in range(0, width, BLOCK):
        yield slice(start, min(start + BLOCK, width))


def round_columns(work: Tensor, spread: Tensor, steps: Steps, groups: Tensor, rounded: Tensor, errors: Tensor) -> None:
    """Rounds the columns of a block one after the other, each corrected for the errors of those before it.

    Args:
        work: the block's columns (block, out); changed on a CPU.
        spread: (block, block), rows contiguous: what an error of column i asks of column j > i; the rest is ignored.
        steps: the grid.
        groups: the group of each column (block,).
        rounded, errors: what comes out, (block, out): steps, and corrected column minus its grid point.
    """
    if work.device.type == "cuda":
        from pmqbench.quantization.gptq_kernel import round_columns as on_gpu

        on_gpu(work, spread, steps, groups, rounded, errors)
    else:
        round_on_cpu(work, spread, steps, groups, rounded, errors)


def round_on_cpu(work: Tensor, spread: Tensor, steps: Steps, groups: Tensor, rounded: Tensor, errors: Tensor) -> None:
    """`round_columns`, an operation of torch at a time."""
    chosen, size = groups.tolist(), len(work)
    scales, lows, highs = steps.scale.unbind(), steps.low.unbind(), steps.high.unbind()
    for start in range(0, size, TILE):
        tile = slice(start, min(start + TILE, size))
        columns = work[tile]
        later = spread[tile, tile].triu(1)
        parts = (columns.unbind(), rounded[tile].unbind(), errors[tile].unbind(), later.unbind(), chosen[tile])
        for column, step, error, share, group in zip(*parts, strict=True):
            torch.div(column, scales[group], out=step).round_().clamp_(lows[group], highs[group])
            torch.addcmul(column, step, scales[group], value=-1, out=error)
            columns.addr_(share, error, alpha=-1)
        work[tile.stop :].addmm_(spread[tile, tile.stop :].T, errors[tile], alpha=-1)
