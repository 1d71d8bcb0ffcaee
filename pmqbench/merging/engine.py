"""Merges experts into one model, tensor by tensor: checks base and experts, streams them through a method, casts the result.

Experts are never held: a method reads one tensor of one expert at a time, as often as it needs. Memory is the merged model plus
a few float64 copies of the tensor at hand (and, for TIES, one byte per parameter), whatever the number of experts.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pmqbench.checkpoints import Checkpoint, check_complete, check_finite, check_same_layout, unlike
from pmqbench.errors import DataError, NumericalError
from pmqbench.files import read_json
from pmqbench.heartbeat import each

if TYPE_CHECKING:
    import torch

    from pmqbench.families.base import Family
    from pmqbench.merging.base import Merger

log = logging.getLogger(__name__)


class Models:
    """The streamed view a method gets of base and experts.

    Every tensor is checked for NaN and Inf as it is read. Tensors may share memory with the file: do not write into them.

    Attributes:
        names: names of the floating-point tensors, the ones to merge, in the base's order.
        labels: what messages call the experts; their indices are the `expert` arguments below.
        linear: names of the linear layers' weights, (out, in); for methods that treat matrices apart from all else.
    """

    def __init__(self, base: Checkpoint, experts: Sequence[Checkpoint], linear: Collection[str] = ()) -> None:
        self._base, self._experts = base, experts
        self.linear = frozenset(linear)
        self.names = [name for name in base.names() if base.tensor(name).is_floating_point()]
        self.labels = [expert.label for expert in experts]
        self._change: Callable[[int, str, torch.Tensor], torch.Tensor] = lambda expert, name, delta: delta

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
        return self._change(expert, name, self.expert(expert, name) - self.base(name))

    def changed(self, change: Callable[[int, str, torch.Tensor], torch.Tensor]) -> Models:
        """A view whose task vectors are `change(expert, name, delta)`, for methods that go on to another with them."""
        view = copy.copy(self)
        view._change = lambda expert, name, delta: change(expert, name, self._change(expert, name, delta))
        return view


def linear_weights(family: Family, base: Path) -> list[str]:
    """Names of the weights of a model's linear layers, as its family tells them from the config in the folder `base`.

    Embeddings of tokens, positions and patches are none, nor are T5's relative attention biases and answer head.
    """
    return [f"{layer}.weight" for layer in family.linear_shapes(read_json(base / family.config_file))]


def merge(
    method: Merger, base: Checkpoint, experts: Sequence[Checkpoint], linear: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """Merges the experts' floating-point tensors; integer tensors come from the base.

    Args:
        method: what to compute, from `MERGERS`.
        base: the model all experts were tuned from, under canonical names.
        experts: at least one checkpoint with the base's tensors.
        linear: names of the linear layers' weights, from `linear_weights`.

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
    check_complete(base)
    for expert in experts:
        check_same_layout(expert, base)
    for labels in same_experts(experts):
        log.warning(
            "%s are one and the same model: a merge counts it as often. Give each task an expert of its own.", ", ".join(labels)
        )
    models = Models(base, experts, linear)
    if not models.names:
        raise DataError("there is no floating-point tensor to merge.", where=base.label, remedy="Is this the base's file?")
    for name in models.names:
        models.base(name)  # a damaged base is an error even where a method does not read it
    log.info("merging %d tensors of %d experts with %s", len(models.names), len(experts), method)
    merge_tensor, floats = method.start(models), frozenset(models.names)
    merged = {}
    for name in each(base.names(), "tensors"):
        stored = base.tensor(name)
        merged[name] = _cast(merge_tensor(name), stored.dtype, name) if name in floats else stored.clone()
    return merged


def same_experts(experts: Sequence[Checkpoint]) -> list[list[str]]:
    """Labels of the experts that hold the same tensors, one list for each such set; `experts` have the same layout.

    Experts are told apart by the first tensor in which they differ, so that few tensors are read.
    """
    alike = [list(experts)]
    for name in experts[0].names():
        alike = [part for group in alike for part in _told_apart(group, name) if len(part) > 1]
    return [[expert.label for expert in group] for group in alike]


def _told_apart(experts: Sequence[Checkpoint], name: str) -> list[list[Checkpoint]]:
    """Experts grouped by the bytes of one tensor."""
    import torch

    groups: dict[bytes, list[Checkpoint]] = {}
    for expert in experts:
        values = expert.tensor(name).contiguous().reshape(-1).view(torch.uint8)
        groups.setdefault(hashlib.sha256(values.numpy()).digest(), []).append(expert)
    return list(groups.values())


def _read(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    tensor = checkpoint.tensor(name)
    if not tensor.is_floating_point():
        raise unlike(checkpoint, f'tensor "{name}" holds {tensor.dtype}, in the base floating-point numbers.')
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
