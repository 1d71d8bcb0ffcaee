"""What the methods on singular vectors share: decompositions in float64, and what they do with tensors that are no matrices.

float64 costs twice the time of float32 (0.4 s for 3072 x 768 on one core) and keeps singular vectors apart whose values lie
close together. A singular value counts as zero where it is below the rounding errors of its matrix: its vectors are arbitrary,
and nothing here lets them into a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from pmqbench.merging.base import MergeTensor, per_expert

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models

# Makes a pass over the experts: their task vectors' matrices, (out, in) float64, one after the other.
Deltas: TypeAlias = "Callable[[], Iterator[torch.Tensor]]"


def merge_matrices(models: Models, scaling: float | list[float], change: Callable[[Deltas], torch.Tensor]) -> MergeTensor:
    """Adds change(task vectors) to the weights of linear layers, and to all other tensors the mean of the task vectors.

    Task vectors are scaled beforehand. For a `change` that grows with them, one number for all is a factor of the result.
    """
    scalings = per_expert(scaling, len(models.labels))

    def merge_tensor(name: str) -> torch.Tensor:
        def deltas() -> Iterator[torch.Tensor]:
            return (models.delta(expert, name).double().mul_(factor) for expert, factor in enumerate(scalings))

        return models.base(name) + (change(deltas) if name in models.linear else total(deltas) / len(scalings))

    return merge_tensor


def total(deltas: Deltas) -> torch.Tensor:
    """Sum of the task vectors."""
    passing = deltas()
    summed = next(passing)  # there is at least one expert
    for delta in passing:
        summed += delta
        del delta  # before the next one is made
    return summed


def svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U (out, r), s (r,) falling, V (r, in) of a matrix (out, in) with r = min(out, in)."""
    import torch

    if matrix.shape[0] >= matrix.shape[1]:
        return torch.linalg.svd(matrix, full_matrices=False)
    right, values, left = torch.linalg.svd(matrix.T, full_matrices=False)  # LAPACK takes three times as long for wide ones
    return left.T, values, right.T


def leading(matrix: torch.Tensor, count: int, size: float | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The `count` largest singular values with their vectors, less those that are zero.

    Args:
        matrix: (out, in) float64.
        count: at most so many.
        size: norm of what the matrix was computed from, where its rounding errors stem from there; its own by default.

    Returns:
        U (out, k), s (k,) falling, V (k, in).
    """
    import torch

    left, values, right = svd(matrix)
    largest = values[:1] if size is None else size
    noise = torch.finfo(values.dtype).eps * max(matrix.shape) * largest
    k = min(count, int((values > noise).sum()))
    return left[:, :k].clone(), values[:k].clone(), right[:k].clone()  # views would keep what is left out in memory


def isometry(matrix: torch.Tensor) -> torch.Tensor:
    """The polar factor U V of a matrix U diag(s) V: of all matrices with orthonormal columns (or rows) the nearest."""
    left, _, right = leading(matrix, min(matrix.shape))
    return left @ right
