"""What trains and how fast: rates in units of what they move, which suit models of any scale, and their course over steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pmqbench.families.base import BlockModel

if TYPE_CHECKING:
    from pmqbench.refinement.latent import LatentLayer
    from pmqbench.refinement.methods.distill import Distill

EPSILON = 1e-12
"""Of AdamW: rates are relative, so gradients of any size must do; its default of 1e-8 is not small to those of large layers."""


def optimiser_of(method: Distill, model: BlockModel, layers: Mapping[str, LatentLayer]) -> torch.optim.AdamW:
    """AdamW without decay over all that trains; each group's full rate stands in it as "rate"."""
    groups: list[dict[str, Any]] = []
    for layer in layers.values():
        if layer.latent.requires_grad:
            groups.append(_group(layer.latent, method.learning_rate * rms(layer.latent)))
        if layer.growth is not None:
            groups.append(_group(layer.growth, method.scale_rate))
        if layer.module.bias is not None:
            row = rms(layer.latent) * layer.latent.shape[1] ** 0.5
            groups.append(_group(own(layer.module, "bias"), method.norm_rate * row))
    linear = {layer.module for layer in layers.values()}
    for module in model.modules():
        weight = module._parameters.get("weight")
        if weight is not None and weight.ndim == 1 and module not in linear:
            unit = rms(weight)
            groups += [_group(own(module, name), method.norm_rate * unit) for name in ("weight", "bias") if has(module, name)]
    return torch.optim.AdamW(groups, weight_decay=0.0, eps=EPSILON, fused=True)


def rate_share(step: int, steps: int, warm_up: int) -> float:
    """Share of the full rate at a step, counted from 0: a linear rise, then a cosine to 0 at `steps`."""
    rise = min(warm_up, steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def rms(tensor: Tensor) -> float:
    """Root mean square; 1 for a tensor of zeros, which has no size of its own."""
    return float(tensor.detach().square().mean().sqrt()) or 1.0


def has(module: nn.Module, name: str) -> bool:
    """Whether a module has a parameter of that name."""
    return module._parameters.get(name) is not None


def own(module: nn.Module, name: str) -> nn.Parameter:
    """Makes a parameter of a module trainable: a copy, since a loaded one may be a view of its checkpoint's memory map."""
    parameter = nn.Parameter(module._parameters[name].detach().clone())
    module._parameters[name] = parameter
    return parameter


def _group(parameter: nn.Parameter, rate: float) -> dict[str, Any]:
    return {"params": [parameter], "lr": rate, "rate": rate}
