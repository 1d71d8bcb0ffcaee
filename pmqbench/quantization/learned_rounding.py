"""A linear layer's rounding with parameters that a gradient can move, started at given codes.

Cheng et al., arXiv 2309.05516 (AutoRound): with u the weight in steps of the start's scale s_0, offsets V in [-1/2, 1/2] and
range factors a, b in [1/2, 1],

    r = (b (high - z_0) + a (z_0 - low)) / (2^bits - 1)         scale s = s_0 r
    z = round(a (z_0 - low) / r)                                symmetric grids: r = b, z = 0
    q = clamp(round((u - z_0) / r + V) + z, low, high)          weight s (q - z)

The gradient takes round for the identity. V = 0, a = b = 1 gives the start bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.metric import Metric
from pmqbench.quantization.problem import Solution

REACH = 0.5  # how far offsets and factors may move: 200 steps that fall linearly from 1 / 200 sum up to that
MARGIN = 1e-3  # steps between a latent weight and where it would round to another code than the start's


class LearnedRounding(nn.Module):
    """The rounding of one layer, as a parametrization of its weight (the weight that it is given is not looked at).

    Attributes:
        offset: V (out, groups, group).
        factors: (out, groups, 2) a and b; of a symmetric grid (out, groups, 1), b.
    """

    def __init__(self, start: LayerCodes, latent: Tensor) -> None:
        """`latent` (out, in): codes before they were rounded, u; they round to the start's."""
        super().__init__()
        grid = start.grid()
        self.bits, self.low, self.high, self.dtype = grid.bits, grid.low, grid.high, start.codes.dtype
        self.symmetric = grid.zero is None
        scale = grid.scale[..., None]
        zero = torch.zeros_like(scale) if grid.zero is None else grid.zero[..., None]
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)
        self.register_buffer("steps", latent.view(*scale.shape[:2], -1) - zero)
        self.offset = nn.Parameter(torch.zeros_like(self.steps))
        self.factors = nn.Parameter(torch.ones(*scale.shape[:2], 1 if self.symmetric else 2, device=scale.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight (out, in) on the grid as it is now."""
        codes, ratio, zero = self._rounded()
        return (self.scale * ratio * (codes - zero)).view(weight.shape)

    def coded(self) -> LayerCodes:
        """What the layer is stored as."""
        with torch.no_grad():
            codes, ratio, zero = self._rounded()
            kept = None if self.symmetric else zero.squeeze(-1).to(torch.uint8)
            return LayerCodes(self.bits, codes.flatten(1).to(self.dtype), (self.scale * ratio).squeeze(-1), kept)

    def descend(self, rate: float) -> None:
        """One step of SignSGD, within reach of the start; gradients are used up."""
        for parameter, centre in ((self.offset, 0.0), (self.factors, 1.0)):
            moved = parameter.data.sub_(parameter.grad.sign(), alpha=rate)
            moved.clamp_(centre - REACH, 1.0 if centre else REACH)
            parameter.grad = None

    def _rounded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (out, groups, group), r and z (out, groups, 1)."""
        if self.symmetric:
            ratio, zero = self.factors, self.zero
        else:
            below, above = self.factors.split(1, dim=-1)
            below = below * (self.zero - self.low)
            ratio = (above * (self.high - self.zero) + below) / (2**self.bits - 1)
            zero = straight_round(below / ratio)
        codes = straight_round(self.steps / ratio + self.offset) + zero
        # Not `clamp`, whose gradient is zero for codes at either end, which at two bits are half of them.
        clipped = codes.detach().clamp(self.low, self.high)
        return torch.where(codes == clipped, codes, clipped), ratio, zero


def straight_round(value: Tensor) -> Tensor:
    """round(value), exactly, with the identity's gradient."""
    return torch.round(value).detach() + (value - value.detach())


def latent_codes(solution: Solution) -> Tensor:
    """The codes of a solution before they were rounded (out, in); at least MARGIN from where they would round differently."""
    coded = solution.codes
    scale = coded.scale[..., None]
    moved = before_rounding(solution.target, solution.weight, solution.metric) - solution.weight
    steps = (moved.view(*scale.shape[:2], -1) / scale).clamp(MARGIN - 0.5, 0.5 - MARGIN)
    return coded.codes + steps.view(coded.codes.shape)


def before_rounding(target: Tensor, weight: Tensor, metric: Metric | None) -> Tensor:
    """The columns (out, in) that GPTQ rounded to `weight`: the target's, each corrected for the errors of those before it.

    With U the metric's factor, GPTQ keeps W* - Q = E U, E the columns' errors over U_jj; so they are Q + (W* - Q) U^-1 diag(U).
    Without a metric nothing is corrected.
    """
    if metric is None:
        return target
    order = slice(None) if metric.order is None else metric.order
    lost = (target.double() - weight.double())[:, order]
    errors = torch.linalg.solve_triangular(metric.upper, lost, upper=True, left=False) * metric.upper.diagonal()
    columns = torch.empty_like(errors)
    columns[:, order] = errors
    return weight + columns.to(weight.dtype)
