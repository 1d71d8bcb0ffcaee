"""Merges experts into one model, tensor by tensor: checks base and experts, streams them through a method, casts the result.

Experts are never held: a method reads one tensor of one expert at a time, as often as it needs. Memory is the merged model plus
a few float64 copies of the tensor at hand (and, for TIES, one byte per parameter), whatever the number of experts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pmqbench.checkpoints import Checkpoint, check_finite
from pmqbench.errors import DataError, NumericalError

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.base import Merger

log = logging.getLogger(__name__)


class Models:
    """The streamed view a method gets of base and experts.

    Every tensor is checked for NaN and Inf as it is read. Tensors may share memory with the file: do not write into them.

    Attributes:
        names: names of the floating-point tensors, the ones to merge, in the base's order.
        labels: what messages call the experts; their indices are the `expert` arguments below.
    """

    def __init__(self, base: Checkpoint, experts: Sequence[Checkpoint]) -> None:
        self._base, self._experts = base, experts
        self.names = [name for name in base.names() if base.tensor(name).is_floating_point()]
        self.labels = [expert.label for expert in experts]

    def numel(self) -> int:
        """Number of parameters to merge."""
        return sum(self._base.tensor(name).numel() for name in self.names)

    def zeros(self, name: str) -> torch.Tensor:
        """A float64 accumulator of the tensor's shape."""
        import torch

        return torch.zeros(self._base.shape(name), dtype=torch.float64)

    def base(self, name: str) -> torch.Tensor:
        """The base's tensor, float32."""
        return _read(self._base, name)

    def expert(self, expert: int, name: str) -> torch.Tensor:
        """An expert's tensor, float32."""
        return _read(self._experts[expert], name)

    def delta(self, expert: int, name: str) -> torch.Tensor:
        """The task vector's tensor, expert minus base, in float32: what the published implementations rank and add."""
        return self.expert(expert, name) - self.base(name)


def merge(method: Merger, base: Checkpoint, experts: Sequence[Checkpoint]) -> dict[str, torch.Tensor]:
    """Merges the experts' floating-point tensors; integer tensors come from the base.

    Args:
        method: what to compute, from `MERGERS`.
        base: the model all experts were tuned from, under canonical names.
        experts: at least one checkpoint with the base's tensors.

    Returns:
        Canonical name -> tensor, in the base's order, shapes and dtypes.

    Raises:
        ConfigError: an option lists another number of values than there are experts.
        DataError: a tensor is missing, left over, or of another shape or kind than the base's; names expert and tensor.
        NumericalError: NaN or Inf in a model (names it and the tensor) or in the merged tensor.
    """
    if not experts:
        raise DataError("there is no expert to merge.", where=base.label, remedy="Give at least one expert.")
    method.check([expert.label for expert in experts], where=type(method).__name__)
    _check_missing(base)
    for expert in experts:
        _check_like(expert, base)
    models = Models(base, experts)
    if not models.names:
        raise DataError("there is no floating-point tensor to merge.", where=base.label, remedy="Is this the base's file?")
    for name in models.names:
        models.base(name)  # a damaged base is an error even where a method does not read it
    log.info("merging %d tensors of %d experts with %s", len(models.names), len(experts), method)
    merge_tensor, floats = method.start(models), frozenset(models.names)
    merged = {}
    for name in base.names():
        stored = base.tensor(name)
        merged[name] = _cast(merge_tensor(name), stored.dtype, name) if name in floats else stored.clone()
    return merged


def _check_missing(checkpoint: Checkpoint) -> None:
    """Raises DataError if a tensor of the checkpoint's own layout is not in its file."""
    for name in checkpoint.names():
        if name not in checkpoint:
            raise _unlike(checkpoint, f'tensor "{name}" is missing.')


def _check_like(expert: Checkpoint, base: Checkpoint) -> None:
    """Raises DataError if `expert` has not the base's tensors, shape by shape; reads headers only."""
    _check_missing(expert)
    known = set(base.names())
    for name in expert.names():
        if name not in known:
            raise _unlike(expert, f'tensor "{name}" is not in the base ({base.label}).')
    own = set(expert.names())
    for name in base.names():
        if name not in own:
            raise _unlike(expert, f'tensor "{name}" is missing.')
        if expert.shape(name) != base.shape(name):
            raise _unlike(expert, f'tensor "{name}" has shape {expert.shape(name)}, in the base {base.shape(name)}.')


def _unlike(checkpoint: Checkpoint, what: str) -> DataError:
    remedy = f"Is {checkpoint.path} of the suite's architecture, tuned from its base?"
    return DataError(what, where=checkpoint.label, remedy=remedy)


def _read(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    tensor = checkpoint.tensor(name)
    if not tensor.is_floating_point():
        raise _unlike(checkpoint, f'tensor "{name}" holds {tensor.dtype}, in the base floating-point numbers.')
    tensor = tensor.float()
    if not bool(tensor.sum().isfinite()):  # ten times faster than looking at each value; large finite values may overflow too
        check_finite(tensor, f"{checkpoint.label}: {name}")
    return tensor


def _cast(tensor: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    merged = tensor.to(dtype)
    if not bool(merged.isfinite().all()):
        raise NumericalError(
            f"the merged values do not fit {dtype}: {int((~merged.isfinite()).sum())} of {merged.numel()} are NaN or Inf.",
            where=f"merged model: {name}",
            remedy="Lower the scaling, or use a base of a wider dtype.",
        )
    return merged
