"""Layers that train through their rounding: latent weights and scales, the weight that the model runs with, and its codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pmqbench.quantization.grid import LayerCodes

SLACK = 1e-4
"""Steps by which a weight at the end of its range may be outside of it by rounding, and still train."""


class StraightThrough(torch.autograd.Function):
    """scale e^growth round(clamp(latent / scale, low, high)); the rounding's derivative counts as 1.

    All are (out, groups, group size) or broadcast to it; bounds are in whole steps of the scale, the zero point taken off.
    """

    @staticmethod
    def forward(ctx: Any, latent: Tensor, growth: Tensor, inverse: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """`inverse` is 1 / scale, which never changes."""
        place = latent * inverse
        steps = torch.clamp(place, low, high)
        inside = (steps - place).abs_() <= SLACK
        grown = scale * growth.exp()
        weight = steps.round_().mul_(grown)
        ctx.save_for_backward(weight, inside, inverse, grown)
        return weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """To the latent weight within the clamp, and to the growth, by which the weight's derivative is the weight."""
        weight, inside, inverse, grown = ctx.saved_tensors
        latent = (gradient * (grown * inverse)).mul_(inside) if ctx.needs_input_grad[0] else None
        return latent, (gradient * weight).sum(-1, keepdim=True), None, None, None, None


class LatentLayer:
    """A linear layer in training. It gives its module a weight before every step; the module's bias trains by itself.

    The weight goes straight into the module's parameters, where only leaves are meant to be, so that it keeps its place.

    Attributes:
        module: the layer; `close` gives it a parameter for a weight again.
        latent: the latent weight; does not require a gradient if codes stay.
        growth: (out, groups, 1), log of the scales' growth; None at full precision.
    """

    def __init__(self, module: nn.Linear, coded: LayerCodes | None, train_weight: bool) -> None:
        self.module, self._coded = module, coded
        weight = module.weight.detach().clone()
        self.latent = nn.Parameter(weight, requires_grad=train_weight)
        self.growth: nn.Parameter | None = None
        if coded is not None:
            grid = coded.grid()
            zero = torch.zeros_like(grid.scale) if grid.zero is None else grid.zero
            self._scale, self._zero = (part[..., None].to(weight.device) for part in (grid.scale, zero))
            self._inverse = 1 / self._scale
            self._low, self._high = grid.low - self._zero, grid.high - self._zero
            self.growth = nn.Parameter(torch.zeros_like(self._scale))

    def install(self) -> None:
        """Gives the module the weight (out, in) of the latent weight and the scales as they are now."""
        self.module._parameters["weight"] = self.weight()

    def weight(self) -> Tensor:
        """On the grid, with gradients to what trains."""
        if self.growth is None:
            return self.latent
        parts = (self._grouped(), self.growth, self._inverse, self._scale, self._low, self._high)
        return StraightThrough.apply(*parts).view(self.latent.shape)

    def codes(self) -> LayerCodes | None:
        """What the layer is stored as; None at full precision."""
        if self.growth is None or self._coded is None:
            return None
        with torch.no_grad():
            steps = torch.clamp(self._grouped() * self._inverse, self._low, self._high).round_()
            codes = (steps + self._zero).to(self._coded.codes.dtype)
            scale = (self._scale * self.growth.exp())[..., 0]
        return LayerCodes(self._coded.bits, codes.view(self.latent.shape).cpu(), scale.cpu(), self._coded.zero)

    def close(self) -> LayerCodes | None:
        """Ends the training: the module has the final weight, exactly that of the codes, which are returned."""
        coded = self.codes()
        weight = self.latent.detach() if coded is None else coded.weight().to(self.latent.device)
        self.module._parameters["weight"] = nn.Parameter(weight, requires_grad=False)
        return coded

    def _grouped(self) -> Tensor:
        return self.latent.view(len(self.latent), self._scale.shape[1], -1)
