"""The metric of a layer: its damped second moment, factorised once for both the target's solve and the rounding solver.

With M the upper factor H + d mu I = M M^T (a Cholesky factorisation from the last row up), U = M^-1 is upper triangular with
U^T U = (H + d mu I)^-1: the factor GPTQ's column loop reads, without forming the inverse. mu is the mean of diag(H).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pmqbench.errors import NumericalError

# Without any damping asked for, a singular matrix gets this share of mu first.
FIRST_REMEDY = 1e-6
# Pivots below this share of the largest diagonal entry are rounding noise of float32 moments.
NOISE = 10 * torch.finfo(torch.float32).eps
POWER_STEPS = 3
LEAF = 256  # a triangular matrix up to this size is inverted by substitution, a larger one by halves


@dataclass(frozen=True)
class Metric:
    """A factorised H + (damping + raised) mu I.

    Attributes:
        second: H (in, in) as it was given, not copied.
        diagonal: of the damped matrix (in,), float64; off its diagonal it is H.
        upper: U (in, in), float64, upper triangular, in `order`.
        order: permutation of the inputs that U stands in, or None for their own order.
        mu: mean of diag(H).
        damping: share of mu that was asked for.
        raised: share of mu added beyond that, since the matrix was singular.
        condition: estimate of the damped matrix's condition number.
        remedy: what was done about a singular matrix, None if nothing had to be.
    """

    second: Tensor
    diagonal: Tensor
    upper: Tensor
    order: Tensor | None
    mu: float
    damping: float
    raised: float
    condition: float
    remedy: str | None

    def times(self, left: Tensor, inputs: slice = slice(None)) -> Tensor:
        """`left` (out, some) times the rows `inputs` of the damped matrix: (out, in), in float64."""
        left, rows = left.double(), self.second[inputs].double()
        product = left @ rows
        product[:, inputs] += left * (self.diagonal - self.second.diagonal())[inputs]
        return product

    def solve(self, right: Tensor) -> Tensor:
        """`right` (out, in) times the inverse of the damped matrix, in float64."""
        right = right.double()
        if self.order is None:
            return (right @ self.upper.T) @ self.upper
        solved = torch.empty_like(right)
        solved[:, self.order] = (right[:, self.order] @ self.upper.T) @ self.upper
        return solved


def factorise(second: Tensor, damping: float, *, where: str, tokens: int | None = None, act_order: bool = False) -> Metric:
    """Factorises `second` + `damping` * mu * I, raising the damping tenfold, up to mu itself, while it is singular.

    Args:
        second: H (in, in), symmetric; not changed. Inputs that are always zero get H_ii = 1, which couples them to nothing.
        damping: share of mu = mean(diag(H)) to add.
        where: what messages call the layers.
        tokens: number of tokens behind H, if known: fewer than inputs make it singular whatever rounding noise says.
        act_order: factorise in the order of falling diag(H).

    Raises:
        NumericalError: no damping up to mu helps (NaN, or far from positive semi-definite).
    """
    matrix = second.to(torch.float64, copy=True)
    diagonal = matrix.diagonal().clone()
    mu = float(diagonal.mean())
    if not mu >= 0 or not bool(diagonal.isfinite().all()):
        raise NumericalError(
            f"the second moment's diagonal averages {mu}.", where=where, remedy="Check weights and calibration data."
        )
    dead = diagonal == 0
    order = torch.argsort(diagonal, descending=True, stable=True) if act_order else None
    live_inputs = int((~dead).sum())
    for total in _dampings(damping, skip_none=tokens is not None and tokens < live_inputs):
        damped_diagonal = diagonal + total * mu + (dead & (total * mu == 0))
        matrix.diagonal().copy_(damped_diagonal)
        damped = matrix if order is None else matrix[order][:, order]
        upper = _inverse_factor(damped)
        if upper is not None:
            remedy = _remedy(damping, total, tokens, live_inputs)
            return Metric(
                second, damped_diagonal, upper, order, mu, damping, total - damping, _condition(damped, upper), remedy
            )
    raise NumericalError(
        "the second moment cannot be factorised even with its mean diagonal added as damping.",
        where=where,
        remedy="Its activations are not finite or extreme: check weights and calibration data.",
    )


def _dampings(first: float, skip_none: bool) -> Iterator[float]:
    """Dampings to try: `first`, then tenfold, the last one 1; without `first`, 0 (unless skipped) and FIRST_REMEDY tenfold."""
    if first > 0 or not skip_none:
        yield first
    level = first * 10 if first > 0 else FIRST_REMEDY
    while level < 1 - 1e-9:
        yield level
        level *= 10
    if first < 1:
        yield 1.0


def _inverse_factor(matrix: Tensor) -> Tensor | None:
    """U upper triangular with U^T U = matrix^-1; None if the matrix is numerically singular."""
    lower, info = torch.linalg.cholesky_ex(matrix.flip(0, 1))
    if int(info) != 0:
        return None
    pivots = lower.diagonal().square()
    if not float(pivots.min()) > NOISE * float(matrix.diagonal().max()):
        return None
    return _inverse_upper(lower.flip(0, 1))


def _inverse_upper(matrix: Tensor) -> Tensor:
    """Inverse of an upper triangular matrix [[A, B], [0, C]]: [[A^-1, -A^-1 B C^-1], [0, C^-1]], a third of a general solve."""
    size = len(matrix)
    if size <= LEAF:
        identity = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
        return torch.linalg.solve_triangular(matrix, identity, upper=True)
    half = size // 2
    inverse = torch.zeros_like(matrix)
    inverse[:half, :half] = first = _inverse_upper(matrix[:half, :half])
    inverse[half:, half:] = last = _inverse_upper(matrix[half:, half:])
    torch.mm(first @ matrix[:half, half:], last, out=inverse[:half, half:]).neg_()
    return inverse


def _condition(matrix: Tensor, upper: Tensor) -> float:
    """Largest over smallest eigenvalue, each by a few power iterations from the unit vector it stretches most (from below)."""
    largest = largest_eigenvalue(matrix, POWER_STEPS)
    return max(1.0, largest * _power(lambda vector: upper.T @ (upper @ vector), upper.square().sum(0), POWER_STEPS))


def largest_eigenvalue(matrix: Tensor, steps: int) -> float:
    """Largest eigenvalue of a positive definite matrix (from below), by `steps` power iterations."""
    return _power(lambda vector: matrix @ vector, matrix.diagonal(), steps)


def _power(times: Callable[[Tensor], Tensor], diagonal: Tensor, steps: int) -> float:
    """Largest eigenvalue of a positive definite matrix with this diagonal, given its product with a vector."""
    vector = torch.zeros_like(diagonal)
    vector[diagonal.argmax()] = 1
    for _ in range(steps):
        vector = times(vector)
        largest = float(vector.norm())
        vector /= largest
    return largest


def _remedy(asked: float, used: float, tokens: int | None, inputs: int) -> str | None:
    if used == asked:
        return None
    cause = f"{tokens} tokens for {inputs} inputs" if tokens is not None and tokens < inputs else "its factorisation failed"
    return f"second moment singular at damping {asked:g} ({cause}): damping raised to {used:g} of the mean diagonal"
