"""Merges at many scalings, for the choice of one: where a merge is linear in its scaling, a candidate costs an addition."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from pmqbench.merging.engine import merge

if TYPE_CHECKING:
    import torch

    from pmqbench.checkpoints import Checkpoint
    from pmqbench.merging.base import Merger


def scaled_merges(
    method_of: Callable[[float], Merger], base: Checkpoint, experts: Sequence[Checkpoint], linear: Collection[str] = ()
) -> Callable[[float], dict[str, torch.Tensor]]:
    """Function from a scaling to the merge with it; a method that is linear in it merges once (affine: twice) for all of them.

    Args:
        method_of: scaling -> the method.
        base, experts, linear: as `engine.merge` takes them, whose errors are raised.
    """
    method = method_of(1.0)
    if not (method.linear_in_scaling or method.affine_in_scaling):
        return lambda scaling: merge(method_of(scaling), base, experts, linear)
    full = merge(method, base, experts, linear)
    none = {} if method.linear_in_scaling else merge(method_of(0.0), base, experts, linear)

    def scaled(scaling: float) -> dict[str, torch.Tensor]:
        return {name: _between(none[name] if none else base.tensor(name), tensor, scaling) for name, tensor in full.items()}

    return scaled


def _between(none: torch.Tensor, full: torch.Tensor, scaling: float) -> torch.Tensor:
    """What lies at `scaling` from `none` (0) to `full` (1), in float64, of the merge's dtype; integers as they are."""
    if not full.is_floating_point():
        return full
    origin = none.double()
    return origin.add(full.double() - origin, alpha=scaling).to(full.dtype)
