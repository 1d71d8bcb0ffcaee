"""Targets: the matrix a solver rounds, as the pair (target, metric) of a calibrated method.

RTN, GPTQ and AWQ round W_merged (AWQ with scales folded in); every other target is a correction of it by the inputs' moments.
"""

from __future__ import annotations

from torch import Tensor

from pmqbench.quantization.metric import Metric


def teacher_target(merged: Tensor, cross: Tensor, metric: Metric, anchor: float, pull: Tensor | None = None) -> Tensor:
    """Minimiser W* (out, in) of sum_t c_t E|W x - W_t y|^2 + anchor * mu * |W - W_a|_F^2, W_a = W_merged + pull.

    W* = (sum_t c_t W_t C_t + anchor mu W_a) H_a^-1 = W_merged + (R + anchor mu pull) H_a^-1 with R = sum_t c_t (W_t C_t -
    W_merged H_t) (E-PMQ, arXiv 2605.16882). In this form W* is W_merged bit for bit where R and pull are zero.

    Without an anchor nothing pulls towards W_merged: damping that a singular H needed then shrinks W* towards zero, as it does
    in N (H + d mu I)^-1. With an anchor, raised damping counts as a stronger anchor.

    Args:
        merged: W_merged (out, in).
        cross: R (out, in).
        metric: factorised H + anchor * mu * I.
        anchor: lambda.
        pull: how far the anchor lies from W_merged (out, in); None: not at all.
    """
    right = cross.double()
    if pull is not None and anchor > 0:
        right = right + (anchor + metric.raised) * metric.mu * pull
    if anchor == 0 and metric.raised > 0:
        right = right - metric.raised * metric.mu * merged
    return corrected_target(merged, right, metric)


def corrected_target(merged: Tensor, cross: Tensor, metric: Metric) -> Tensor:
    """W_merged + R (H + d mu I)^-1 (out, in): a correction of W_merged that damping of any size makes smaller (QEP's form).

    Args:
        merged: W_merged (out, in).
        cross: R (out, in).
        metric: factorised H + d mu I.
    """
    return (merged.double() + metric.solve(cross)).to(merged.dtype)
