"""The b-bit grids: how scales and zero points follow from a weight, and how codes and weights follow from each other.

A grid has one scale (and zero point) per output row and group of inputs. `LayerCodes` is what a quantized layer is stored as;
its `weight()` is, bit for bit, the weight that the quantized model runs with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Range search of GPTQ's reference code: shrink in steps of 1 % down to 0.2, error |e|^2.4.
MSE_SHRINKS = tuple(1 - i / 100 for i in range(81))
MSE_NORM = 2.4

GroupError = Callable[[Tensor], Tensor]
"""Rounding error (out, groups, group) -> its size per group (out, groups)."""


@dataclass(frozen=True)
class Grid:
    """Scales of a weight (out, in).

    Attributes:
        bits: width of a code.
        scale: (out, groups), float32, > 0.
        zero: (out, groups), float32 whole numbers in 0 .. 2^bits - 1; None for a symmetric grid.
    """

    bits: int
    scale: Tensor
    zero: Tensor | None

    @property
    def low(self) -> int:
        """Least code."""
        return 0 if self.zero is not None else -(2 ** (self.bits - 1))

    @property
    def high(self) -> int:
        """Greatest code."""
        return self.low + 2**self.bits - 1

    @property
    def code_dtype(self) -> torch.dtype:
        """Integer type that holds the codes."""
        return torch.int8 if self.zero is None else torch.uint8

    def encode(self, weight: Tensor) -> Tensor:
        """Codes (out, in) of the grid points nearest to `weight`."""
        grouped = _grouped(weight, self.scale.shape[1])
        codes = torch.round(grouped / self.scale[..., None])
        if self.zero is not None:
            codes += self.zero[..., None]
        return codes.clamp_(self.low, self.high).to(self.code_dtype).view_as(weight)

    def decode(self, codes: Tensor) -> Tensor:
        """Weight (out, in) of codes (out, in): scale * (code - zero) in float32."""
        values = _grouped(codes, self.scale.shape[1]).to(self.scale.dtype)
        if self.zero is not None:
            values -= self.zero[..., None]
        return values.mul_(self.scale[..., None]).view(codes.shape)


@dataclass(frozen=True)
class LayerCodes:
    """A quantized linear layer.

    Attributes:
        bits: width of a code.
        codes: (out, in), uint8 with a zero point, int8 without.
        scale: (out, groups), float32.
        zero: (out, groups), uint8; None for a symmetric grid.
    """

    bits: int
    codes: Tensor
    scale: Tensor
    zero: Tensor | None

    @classmethod
    def of(cls, grid: Grid, codes: Tensor) -> LayerCodes:
        """Codes on `grid`."""
        return cls(grid.bits, codes, grid.scale, None if grid.zero is None else grid.zero.to(torch.uint8))

    def grid(self) -> Grid:
        """The grid the codes are on."""
        return Grid(self.bits, self.scale, None if self.zero is None else self.zero.to(self.scale.dtype))

    def weight(self) -> Tensor:
        """The dequantized weight (out, in), float32."""
        return self.grid().decode(self.codes)

    def rows(self, start: int, stop: int) -> LayerCodes:
        """The output rows start .. stop, copied to the CPU."""
        cut = [part if part is None else part[start:stop].cpu().contiguous() for part in (self.codes, self.scale, self.zero)]
        return LayerCodes(self.bits, *cut)


def fit_grid(
    weight: Tensor,
    bits: int,
    group_size: int | None = None,
    symmetric: bool = False,
    shrinks: Sequence[float] = (1.0,),
    error: GroupError | None = None,
) -> Grid:
    """The grid of a weight (out, in).

    Asymmetric: the range spans all weights of the group and 0; scale = (max - min) / (2^b - 1), zero = round(-min / scale).
    Symmetric: scale = 2 absmax / (2^b - 1), so that + absmax clips (to 0.933 absmax at 4 bits). Of several `shrinks` of the
    range the one of least `error` is taken, group by group; the first of equals.
    """
    grouped = _grouped(weight, weight.shape[1] // (group_size or weight.shape[1]))
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
    best = _span(low * shrinks[0], high * shrinks[0], bits, symmetric)
    if len(shrinks) == 1:
        return best
    least = error(_error(best, weight, grouped))
    for shrink in shrinks[1:]:
        candidate = _span(low * shrink, high * shrink, bits, symmetric)
        size = error(_error(candidate, weight, grouped))
        better = size < least
        least = torch.where(better, size, least)
        zero = None if best.zero is None else torch.where(better, candidate.zero, best.zero)
        best = Grid(bits, torch.where(better, candidate.scale, best.scale), zero)
    return best


def mse_error(error: Tensor) -> Tensor:
    """GroupError of the "mse" range search."""
    return error.abs().pow(MSE_NORM).sum(-1)


def metric_error(diagonal: Tensor) -> GroupError:
    """GroupError of the "metric" range search: sum_j H_jj e_j^2, `diagonal` (in,) the metric's."""

    def size(error: Tensor) -> Tensor:
        weights = diagonal.to(error.dtype).view(error.shape[1:])
        return (error.square() * weights).sum(-1)

    return size


def _span(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> Grid:
    levels = 2**bits - 1
    scale = 2 * torch.maximum(-low, high) / levels if symmetric else (high - low) / levels
    # A group of zeros (or of denormals) has no range; any scale gives it back as zeros.
    scale = torch.where(scale < torch.finfo(scale.dtype).tiny, torch.ones_like(scale), scale)
    return Grid(bits, scale, None if symmetric else torch.round(-low / scale))


def _error(grid: Grid, weight: Tensor, grouped: Tensor) -> Tensor:
    return _grouped(grid.decode(grid.encode(weight)), grouped.shape[1]) - grouped


def _grouped(weight: Tensor, groups: int) -> Tensor:
    """(out, in) -> (out, groups, in / groups)."""
    return weight.reshape(len(weight), groups, -1)
