"""The k-th smallest of values that are streamed, never held or sorted, and the largest entries of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def kth_smallest(
    stream: Callable[[], Iterable[tuple[int, torch.Tensor]]], ranks: Sequence[int], digits: Sequence[int] = (16, 16)
) -> list[float]:
    """The k-th smallest value of each of several sets of float32, as `torch.kthvalue` of a set's concatenated tensors.

    Exact, and without a copy of the values: the bits of floats order like integers. A histogram of their first digit finds the
    bucket of the k-th value, one of the next digit of that bucket's members a smaller bucket, and so on.

    Args:
        stream: makes a pass over all sets: (index of a set, some of its values), in any order, the same values every time.
        ranks: k of each set, from 1.
        digits: bits of each digit, 32 together. Every digit is a pass; the counts of a set take 8 * 2^bits bytes.
    """
    import torch

    ranks, rest = list(ranks), 32
    lowest = [-(1 << (digits[0] - 1))] * len(ranks)  # the bucket's least key, its remaining digits left off
    for bits in digits:
        if rest < 32:
            lowest = [low << bits for low in lowest]
        counts = torch.zeros(len(ranks), 1 << bits, dtype=torch.int64)
        for index, values in stream():
            place = _keys(values.flatten().view(torch.int32)).bitwise_right_shift_(rest - bits).sub_(lowest[index])
            if rest < 32:
                place = place[(place >= 0) & (place < 1 << bits)]
            counts[index] += torch.bincount(place, minlength=1 << bits)
        rest -= bits
        for index, count in enumerate(counts):
            cumulative = count.cumsum(0)
            place = int(torch.searchsorted(cumulative, ranks[index]))
            ranks[index] -= int(cumulative[place] - count[place])
            lowest[index] += place
    return _keys(torch.tensor(lowest, dtype=torch.int32)).view(torch.float32).tolist()


def _keys(bits: torch.Tensor) -> torch.Tensor:
    """int32 patterns of floats -> integers that order as the floats do, and back: negative ones flip all but the sign bit."""
    return (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)


def largest(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """Where the `count` largest magnitudes of each row (of the last dimension) are; of equal ones at the border the first.

    Returns:
        bool, of the tensor's shape.
    """
    import torch

    if count == 0:
        return torch.zeros_like(tensor, dtype=torch.bool)
    magnitude = tensor.abs()
    threshold = magnitude.kthvalue(tensor.shape[-1] - count + 1, dim=-1, keepdim=True).values
    above, border = magnitude > threshold, magnitude == threshold
    border &= border.cumsum(-1) <= count - above.sum(-1, keepdim=True)
    return above | border
