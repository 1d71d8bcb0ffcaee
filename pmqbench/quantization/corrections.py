"""Closed forms beside the weights: biases that make mean outputs right, and norms whose outputs are the experts'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pmqbench.families.base import Block, Group
from pmqbench.quantization.moments import Moments
from pmqbench.quantization.run import Run


def fitted_bias(weight: Tensor, anchor_bias: Tensor, moments: Moments, anchor: float) -> Tensor:
    """argmin_b sum_t c_t |E(Q x + b - W_t y - b_t)|^2 + anchor |b - b_a|^2.

    Args:
        weight: Q (out, in).
        anchor_bias: b_a (out,).
        moments: with the teachers' mean outputs.
        anchor: pull towards b_a; 0 makes the weighted mean output exact.
    """
    free = moments.mean_target - weight.double() @ moments.mean
    return ((free + anchor * anchor_bias) / (1 + anchor)).to(anchor_bias.dtype)


def blend(merged: Tensor, base: Tensor | None, rho: float) -> Tensor:
    """The anchor rho * merged + (1 - rho) * base of biases and norms; `merged` itself without a base."""
    return merged if base is None else rho * merged + (1 - rho) * base


@dataclass(frozen=True)
class NormMoments:
    """Means over tasks, each (width,) float64, of a norm's normalised inputs z and wanted outputs u.

    Attributes:
        z, zz, u, zu: of z, z^2, u and z u.
        scaled: of g_t z^2, g_t the scale of the task's expert.
    """

    z: Tensor
    zz: Tensor
    u: Tensor
    zu: Tensor
    scaled: Tensor


@dataclass(frozen=True)
class NormFit:
    """How norms are refitted.

    Attributes:
        anchor: pull towards the anchor point, per channel.
        rho: the anchor point is rho * merged + (1 - rho) * base.
        relative: the scale's pull is the anchor times E z^2, not the anchor itself.
        share: how much of the wanted outputs is that of the expert's norm on its own inputs; the rest is its parameters on z.
        class_tokens: tokens weigh as in the layers behind the norm, not all alike.
    """

    anchor: float
    rho: float = 1.0
    relative: bool = True
    share: float = 0.0
    class_tokens: bool = False


def refit_norm(run: Run, block: Block, group: Group, fit: NormFit) -> dict[str, Tensor]:
    """New affine parameters of `group.norm` by name, for the inputs it has in the model as quantized so far.

    With z the normalised input and u the expert's norm output, per channel: min over (g, b) of
    mean_t E(g z + b - u)^2 + anchor * (power (g - g_a)^2 + (b - b_a)^2), power = E z^2 if the fit is relative, else 1.
    """
    names = {part: f"{group.norm}.{part}" for part in ("weight", "bias")}
    merged = _affine(run.model.get_submodule(group.norm))
    base = {part: run.base.tensor(names[part], like) if run.base else None for part, like in merged.items()}
    point = {part: blend(like.double(), base[part], fit.rho) for part, like in merged.items()}
    m = norm_moments(run, block, group, fit.share, fit.class_tokens)
    if "bias" not in merged:
        m = replace(m, z=torch.zeros_like(m.z), u=torch.zeros_like(m.u))
    scale = point["weight"]
    offset = point.get("bias", torch.zeros_like(scale))
    power = m.zz if fit.relative else torch.ones_like(m.zz)
    bent, held = m.zz + fit.anchor * power, 1 + fit.anchor
    determinant = bent * held - m.z.square()
    right_scale, right_offset = m.zu + fit.anchor * power * scale, m.u + fit.anchor * offset
    # A channel that never varies leaves (g, b) undetermined without an anchor: it keeps the merged parameters.
    defined = determinant > torch.finfo(torch.float32).eps * m.zz
    safe = torch.where(defined, determinant, torch.ones_like(determinant))
    solved = {"weight": held * right_scale - m.z * right_offset, "bias": bent * right_offset - m.z * right_scale}
    return {
        names[part]: torch.where(defined, solved[part] / safe, like.double()).to(like.dtype) for part, like in merged.items()
    }


def norm_moments(run: Run, block: Block, group: Group, share: float = 0.0, class_tokens: bool = False) -> NormMoments:
    """Moments of `group.norm`'s inputs in the source, tasks weighing alike; arguments as in NormFit."""
    sums = [torch.zeros_like(run.model.get_parameter(f"{group.norm}.weight"), dtype=torch.float64) for _ in range(5)]
    for means in run.world.in_order(len(run.tasks), _norm_means(run, block, group, share, class_tokens)):
        for running, mean in zip(sums, means, strict=True):
            running += mean
    return NormMoments(*(summed / len(run.tasks) for summed in sums))


def _norm_means(run: Run, block: Block, group: Group, share: float, class_tokens: bool) -> Iterator[list[Tensor]]:
    """What each of this process's tasks adds to the five fields of `NormMoments`."""
    first = group.layers[0]
    affine = _affine(run.model.get_submodule(group.norm))
    for task, states in run.source.states.items():
        own = {part: run.experts[task].tensor(f"{group.norm}.{part}", like) for part, like in affine.items()}
        run.enter(task, block)
        parts, total = [torch.zeros_like(affine["weight"], dtype=torch.float64) for _ in range(5)], 0.0
        for index, state in enumerate(states):
            with _without_affine(run.source.model.get_submodule(group.norm)):
                z = run.inputs(run.source, task, index, block, (first,))[first]
            u = own["weight"] * z + own.get("bias", 0.0)
            if share:
                u = share * run.inputs(run.teacher, task, index, block, (first,))[first] + (1 - share) * u
            weights = run.model.token_weights(block, first, state, class_tokens)
            weights = torch.ones(len(z), device=z.device) if weights is None else weights
            kept = weights > 0
            z, u, weights = z[kept], u[kept], weights[kept].double()
            for part, value in zip(parts, (z, z.square(), u, z * u, own["weight"] * z.square()), strict=True):
                part += weights @ value.double()
            total += float(weights.sum())
        yield [part / total for part in parts]


def _affine(norm: nn.Module) -> dict[str, Tensor]:
    """Its scale "weight" and, if it has one, its offset "bias"."""
    parts = {part: getattr(norm, part, None) for part in ("weight", "bias")}
    return {part: tensor.detach() for part, tensor in parts.items() if tensor is not None}


@contextmanager
def _without_affine(norm: nn.Module) -> Iterator[None]:
    """The norm gives its normalised input while this runs."""
    kept = _affine(norm)
    for part, tensor in kept.items():
        getattr(norm, part).data = torch.ones_like(tensor) if part == "weight" else torch.zeros_like(tensor)
    try:
        yield
    finally:
        for part, tensor in kept.items():
            getattr(norm, part).data = tensor
