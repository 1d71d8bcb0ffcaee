"""Closed forms beside the weights: biases that make mean outputs right, and norms whose outputs are the experts'."""

from __future__ import annotations

import torch
from torch import Tensor

from pmqbench.families.base import Block, Group
from pmqbench.quantization.calibrate import Run
from pmqbench.quantization.moments import Moments


def fitted_bias(weight: Tensor, bias: Tensor, moments: Moments, anchor: float) -> Tensor:
    """argmin_b sum_t c_t |E(Q x + b - W_t y - b_t)|^2 + anchor |b - b_merged|^2.

    Args:
        weight: Q (out, in).
        bias: b_merged (out,).
        moments: with the teachers' mean outputs.
        anchor: pull towards b_merged; 0 makes the weighted mean output exact.
    """
    free = moments.mean_target - weight.double() @ moments.mean
    return ((free + anchor * bias) / (1 + anchor)).to(bias.dtype)


def refit_norm(run: Run, block: Block, group: Group, anchor: float) -> None:
    """Refits the affine parameters of `group.norm` in place, on the inputs it has in the model as quantized so far.

    With z the normalised input and u the expert's norm output (its parameters on z, or on its own inputs by the method's
    share), per channel: min over (g, b) of mean_t E(g z + b - u)^2 + anchor * (E z^2 (g - g_merged)^2 + (b - b_merged)^2).
    """
    norm = run.model.get_submodule(group.norm)
    scale = norm.weight.detach().double()
    has_bias = getattr(norm, "bias", None) is not None
    offset = norm.bias.detach().double() if has_bias else torch.zeros_like(scale)
    norm.weight.data = torch.ones_like(norm.weight)
    if has_bias:
        norm.bias.data = torch.zeros_like(norm.bias)
    z, zz, u, zu = (total / len(run.student.states) for total in _norm_moments(run, block, group, has_bias))
    if not has_bias:
        z = u = torch.zeros_like(z)
    determinant = (1 + anchor) * (1 + anchor) * zz - z.square()
    right_scale, right_offset = zu + anchor * zz * scale, u + anchor * offset
    # A channel that never varies leaves (g, b) undetermined without an anchor: it keeps the merged parameters.
    defined = determinant > torch.finfo(torch.float32).eps * zz
    safe = torch.where(defined, determinant, torch.ones_like(determinant))
    fitted = ((1 + anchor) * right_scale - z * right_offset) / safe
    norm.weight.data = torch.where(defined, fitted, scale).to(norm.weight.dtype)
    if has_bias:
        fitted = ((1 + anchor) * zz * right_offset - z * right_scale) / safe
        norm.bias.data = torch.where(defined, fitted, offset).to(norm.bias.dtype)


def _norm_moments(run: Run, block: Block, group: Group, has_bias: bool) -> list[Tensor]:
    """Sums over tasks of E z, E z^2, E u, E z u (width,) each, in float64; `group.norm` gives z while this runs."""
    share, first = run.sampling.teacher_share, group.layers[0]
    like = run.model.get_submodule(group.norm).weight
    sums = [torch.zeros_like(like, dtype=torch.float64) for _ in range(4)]
    for task, states in run.student.states.items():
        expert = run.experts[task]
        scale = expert.tensor(f"{group.norm}.weight", like)
        offset = expert.tensor(f"{group.norm}.bias", like) if has_bias else torch.zeros_like(like)
        run.enter(task, block)
        parts, total = [torch.zeros_like(sums[0]) for _ in sums], 0.0
        for index, state in enumerate(states):
            z = run.inputs(run.student, task, index, block, (first,))[first]
            u = scale * z + offset
            if share:
                u = share * run.inputs(run.teacher, task, index, block, (first,))[first] + (1 - share) * u
            weights = run.model.token_weights(block, first, state, False)
            weights = torch.ones(len(z), device=z.device) if weights is None else weights
            kept = weights > 0
            z, u, weights = z[kept], u[kept], weights[kept].double()
            for part, value in zip(parts, (z, z.square(), u, z * u), strict=True):
                part += weights @ value.double()
            total += float(weights.sum())
        for running, part in zip(sums, parts, strict=True):
            running += part / total
    return sums
