"""Moments of a layer's inputs: collected batch by batch for one task, then added to the pool of all tasks.

Only one task's moment matrices live at a time: the pool keeps sum c_t H_t, sum c_t (W_t C_t - W_merged H_t), vectors, and a
small sample of each task's tokens for the layer record. Tokens are rows: X is (tokens, in), H_t = X^T X / n.

What a task adds is made from its own moments alone (`Pool.share`), wherever its samples are; adding is a matter of order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Literal

import torch
from torch import Tensor

from pmqbench.errors import NumericalError

SAMPLE_TOKENS = 128  # tokens a task kept for the per-task deviations of the layer record
PANEL = 256  # columns that a GPU multiplies at once, from the diagonal on: up to half the products of a symmetric H are saved


@dataclass
class Sample:
    """Evenly spaced tokens of a task: inputs x (k, in), shift (k, in) to the target's inputs or None, weights (k,) of sum 1."""

    x: Tensor
    shift: Tensor | None
    weights: Tensor


class TaskMoments:
    """Moments of one task's inputs x and, with `cross`, of the shift y - x to the target's inputs.

    After `finish`: second (in, in) = E[x x^T]; with `cross` shift (in, in) = E[(y - x) x^T] and shift_second (in, in) =
    E[(y - x) (y - x)^T], else None; mean and mean_shift (in,); absolute (in,) = E|x| or None; `weight` the sum of token
    weights; `tokens` how many tokens have a weight.
    """

    def __init__(self, width: int, device: torch.device, batches: int, cross: bool = False, absolute: bool = False) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.second = zeros(width, width)
        self.shift, self.shift_second = (zeros(width, width), zeros(width, width)) if cross else (None, None)
        self.mean, self.mean_shift = zeros(width, dtype=torch.float64), zeros(width, dtype=torch.float64)
        self.absolute = zeros(width, dtype=torch.float64) if absolute else None
        self.weight, self.tokens = 0.0, 0
        self._per_batch = ceil(SAMPLE_TOKENS / batches)
        self._sample: list[tuple[Tensor, Tensor | None, Tensor]] = []

    def add(self, x: Tensor, weights: Tensor | None = None, y: Tensor | None = None, share: float = 1.0) -> None:
        """Adds one batch.

        Args:
            x: inputs (n, in).
            weights: (n,); tokens of weight 0 (padding) are left out, whatever they hold. None: all 1.
            y: the teacher's inputs (n, in) of the same tokens.
            share: the target's inputs are share * y + (1 - share) * x.
        """
        if weights is not None:
            kept = weights > 0
            x, weights, y = x[kept], weights[kept], None if y is None else y[kept]
        if len(x) == 0:
            return
        shift = None if y is None else share * (y - x)
        weighted = x if weights is None else x * weights[:, None]
        _add_square(self.second, x, weights)
        self.mean += weighted.sum(0)
        if self.absolute is not None:
            self.absolute += weighted.abs().sum(0)
        if shift is not None:
            weighted_shift = shift if weights is None else shift * weights[:, None]
            self.shift.addmm_(weighted_shift.T, x)
            _add_square(self.shift_second, shift, weights)
            self.mean_shift += weighted_shift.sum(0)
        self.weight += float(len(x) if weights is None else weights.sum(dtype=torch.float64))
        self.tokens += len(x)
        self._keep(x, shift, weights)

    def finish(self, where: str, off_diagonal: float = 1.0) -> TaskMoments:
        """Turns sums into means; NumericalError naming `where` if there was no token or a value is NaN or Inf.

        Args:
            where: what messages call task and layers.
            off_diagonal: factor of the second moment off its diagonal.
        """
        if self.tokens == 0:
            raise NumericalError("no token of the calibration set counts.", where=where, remedy="Are all tokens padding?")
        for matrix in (self.second, self.shift, self.shift_second, self.mean, self.mean_shift, self.absolute):
            if matrix is not None:
                matrix /= self.weight
                if not bool(matrix.isfinite().all()):
                    raise NumericalError(
                        "the layer's inputs hold NaN or Inf, or overflow float32 when squared.",
                        where=where,
                        remedy="Check the model's weights and the calibration data of this task.",
                    )
        _mirror(self.second)
        if off_diagonal != 1:
            diagonal = self.second.diagonal().clone()
            self.second.mul_(off_diagonal).diagonal().copy_(diagonal)
        if self.shift_second is not None:
            _mirror(self.shift_second)
        return self

    def sample(self) -> Sample:
        """The tokens kept of all batches."""
        x, shift, weights = zip(*self._sample, strict=True)
        weights = torch.cat(weights)
        return Sample(torch.cat(x), None if shift[0] is None else torch.cat(shift), weights / weights.sum())

    def _keep(self, x: Tensor, shift: Tensor | None, weights: Tensor | None) -> None:
        count = min(self._per_batch, len(x))
        rows = torch.arange(count, device=x.device) * len(x) // count
        kept = torch.ones(count, device=x.device) if weights is None else weights[rows]
        self._sample.append((x[rows], None if shift is None else shift[rows], kept * (len(x) / count)))


def _add_square(total: Tensor, x: Tensor, weights: Tensor | None) -> None:
    """Adds x^T diag(weights) x to `total`; only the diagonal and what is above it is right until `_mirror`.

    On a CPU a symmetric rank-k update of BLAS, which torch does not offer: half the products of a general one.
    """
    if weights is not None:
        x = x * weights.sqrt()[:, None]
    if total.device.type == "cpu":
        from scipy.linalg.blas import ssyrk

        # Fortran's order of x^T is C's of x: nothing is copied. Its lower triangle is the upper one of `total`.
        ssyrk(1.0, x.contiguous().numpy().T, beta=1.0, c=total.numpy().T, lower=1, overwrite_c=1)
        return
    for start in range(0, len(total), PANEL):
        total[start : start + PANEL, start:].addmm_(x[:, start : start + PANEL].T, x[:, start:])


def _mirror(total: Tensor) -> None:
    """Fills in below the diagonal what `_add_square` left out."""
    for start in range(0, len(total), PANEL):
        stop = start + PANEL
        total[stop:, start:stop] = total[start:stop, stop:].T
        corner = total[start:stop, start:stop]
        corner.copy_(corner.triu() + corner.triu(1).T)


@dataclass
class Moments:
    """Pooled moments of the inputs of a stack of layers, sum_t c_t (...) with weights that sum to 1.

    Attributes:
        second: H (in, in).
        cross: R (out, in) = sum_t c_t (W_t C_t - W_merged H_t): what the teachers' outputs have that the merged weights' lack,
            correlated with the inputs. None without teachers.
        residual: (out,) = sum_t c_t E|W_t y - W_merged x|^2 per output; None without teachers.
        shift: sum_t c_t E[(y - x) x^T] (in, in), y the target's inputs; None unless asked for.
        mean, mean_target: E x (in,), and the teachers' mean output with bias (out,) or None.
        absolute: E|x| (in,) or None.
        tokens: how many tokens count.
        weights: c_t by task.
        total: sum of the weights before they were rescaled to sum 1.
        samples: tokens kept, by task.
    """

    second: Tensor
    cross: Tensor | None
    residual: Tensor | None
    shift: Tensor | None
    mean: Tensor
    mean_target: Tensor | None
    absolute: Tensor | None
    tokens: int
    weights: dict[str, float]
    total: float
    samples: dict[str, Sample]


@dataclass
class Teacher:
    """A task's target weights for a stack of layers: weight (out, in) and bias (out,) or None."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Share:
    """What one task adds to the pool.

    Attributes:
        weight: c_t, before it is rescaled.
        tokens: how many count.
        sample: tokens kept.
        parts: of each of `Pool`'s sums, without c_t.
    """

    weight: float
    tokens: int
    sample: Sample
    parts: dict[str, Tensor]


@dataclass
class Pool:
    """Adds up the shares of tasks, one after the other.

    Args:
        merged: W_merged of the stack (out, in).
        task_weight: c_t before it is rescaled to sum 1: "tokens" (their number: all tokens count alike), "uniform" (1) or
            "frobenius" (1 / |H_t|_F).
        keep_shift: whether the pooled moments have `shift`.
    """

    merged: Tensor
    task_weight: Literal["tokens", "uniform", "frobenius"]
    keep_shift: bool = False
    _sums: dict[str, Tensor] = field(default_factory=dict)
    _tokens: int = 0
    _weights: dict[str, float] = field(default_factory=dict)
    _samples: dict[str, Sample] = field(default_factory=dict)

    def share(self, moments: TaskMoments, teacher: Teacher | None, where: str) -> Share:
        """What finished moments add, of a task whose outputs should be those of `teacher`."""
        parts = {"second": moments.second, "mean": moments.mean}
        if moments.absolute is not None:
            parts["absolute"] = moments.absolute
        if self.keep_shift:
            parts["shift"] = moments.shift
        if teacher is not None:
            parts |= self._taught(moments, teacher)
        return Share(self._weight(moments, where), moments.tokens, moments.sample(), parts)

    def add(self, task: str, share: Share) -> None:
        """Adds the share of `task`."""
        self._weights[task] = share.weight
        self._tokens += share.tokens
        self._samples[task] = share.sample
        for name, value in share.parts.items():
            if name in self._sums:
                self._sums[name].add_(value, alpha=share.weight)
            else:
                self._sums[name] = value * share.weight

    def moments(self) -> Moments:
        """The pooled moments; the pool is used up."""
        total = sum(self._weights.values())
        sums = {name: value.div_(total) for name, value in self._sums.items()}
        return Moments(
            **{name: sums.get(name) for name in ("second", "cross", "residual", "shift", "mean", "mean_target", "absolute")},
            tokens=self._tokens,
            weights={task: weight / total for task, weight in self._weights.items()},
            total=total,
            samples=self._samples,
        )

    def _weight(self, moments: TaskMoments, where: str) -> float:
        if self.task_weight == "tokens":
            return moments.weight
        if self.task_weight == "uniform":
            return 1.0
        norm = float(torch.linalg.matrix_norm(moments.second))
        if norm == 0:
            raise NumericalError(
                'all inputs are zero, so task_weight "frobenius" is not defined.', where=where, remedy='Use "uniform".'
            )
        return 1 / norm

    def _taught(self, moments: TaskMoments, teacher: Teacher) -> dict[str, Tensor]:
        # W_t C_t - W_merged H_t with C_t = H_t + E[(y - x) x^T]: exactly zero when the teacher is the merged model itself.
        difference = teacher.weight - self.merged
        cross = difference @ moments.second
        residual = (cross * difference).sum(1)
        if moments.shift is not None:
            shifted = teacher.weight @ moments.shift
            residual += 2 * (shifted * difference).sum(1)
            residual += ((teacher.weight @ moments.shift_second) * teacher.weight).sum(1)
            cross += shifted
        output = teacher.weight.double() @ (moments.mean + moments.mean_shift)
        mean_target = output if teacher.bias is None else output + teacher.bias
        return {"cross": cross, "residual": residual, "mean_target": mean_target}
