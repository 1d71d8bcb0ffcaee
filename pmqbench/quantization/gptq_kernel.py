"""GPTQ's column loop on a GPU: a block of columns in one launch, where the plain loop takes five launches a column.

Rows of a weight do not depend on each other, so each program takes some outputs through all columns of the block and keeps
them in registers. The plain loop is `columns.round_on_cpu`; codes agree up to the order of float32 sums.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from pmqbench.quantization.columns import Steps

OUTPUTS = 16  # outputs a program takes
# 1.5 * 2^23: adding and subtracting it rounds a float32 below 2^22 to the nearest whole number, ties to even, as torch.round.
ROUNDER = tl.constexpr(12582912.0)
FAR = tl.constexpr(1048576.0)  # beyond every code; keeps the rounding exact


@triton.jit
def _round_block(
    work, spread, scales, lows, highs, groups, rounded, errors, size, outputs, stride, held: tl.constexpr, taken: tl.constexpr
):
    rows = tl.arange(0, held)
    outs = tl.program_id(0) * taken + tl.arange(0, taken)
    live = outs < outputs
    inside = (rows < size)[:, None] & live[None, :]
    columns = tl.load(work + rows[:, None] * outputs + outs[None, :], mask=inside, other=0.0)
    for i in range(size):
        column = tl.sum(tl.where((rows == i)[:, None], columns, 0.0), axis=0)
        place = tl.load(groups + i) * outputs + outs
        scale = tl.load(scales + place, mask=live, other=1.0)
        low = tl.load(lows + place, mask=live, other=0.0)
        high = tl.load(highs + place, mask=live, other=0.0)
        step = tl.minimum(tl.maximum(tl.div_rn(column, scale), -FAR), FAR)
        step = tl.minimum(tl.maximum((step + ROUNDER) - ROUNDER, low), high)
        error = column - step * scale
        tl.store(rounded + i * outputs + outs, step, mask=live)
        tl.store(errors + i * outputs + outs, error, mask=live)
        share = tl.load(spread + i * stride + rows, mask=(rows > i) & (rows < size), other=0.0)
        columns -= share[:, None] * error[None, :]


def round_columns(work: Tensor, spread: Tensor, steps: Steps, groups: Tensor, rounded: Tensor, errors: Tensor) -> None:
    """As `columns.round_on_cpu`, but for `work`, which is left as it is."""
    size, outputs = work.shape
    _round_block[(triton.cdiv(outputs, OUTPUTS),)](
        work,
        spread,
        steps.scale,
        steps.low,
        steps.high,
        groups,
        rounded,
        errors,
        size,
        outputs,
        spread.stride(0),
        held=triton.next_power_of_2(size),
        taken=OUTPUTS,
        enable_fp_fusion=False,  # a product is rounded before it is subtracted, as in the plain loop
    )
