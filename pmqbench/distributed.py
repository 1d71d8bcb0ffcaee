"""Work that several processes share: which tasks are whose, and how what each makes of its own comes together.

All processes run the same code, each on its own tasks (data parallel over tasks), and meet in the calls of `World`. What is
summed over tasks is summed in the suite's order, from each task's own sum, whoever made it: so the result is the same in every
process, and what one process gets. Only gradients are added up by an all-reduce (`refinement/distillation.py`).

`pmqbench/processes.py` starts the processes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pmqbench.errors import NumericalError

T = TypeVar("T")
_MISSING = object()
INLINE = 2**20
"""Bytes of a tensor up to which it travels inside the message that tells of it: messages cost more than copies."""


@dataclass(frozen=True)
class World:
    """The processes of a job, and which of them this is.

    Attributes:
        rank: of this process; 0 writes what the job makes.
        size: processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def own(self, items: Sequence[T]) -> list[T]:
        """This process's items: tasks go round, so that the processes' counts differ by one at most."""
        return list(items[self.rank :: self.size])

    def all_of(self, own: Iterable[T]) -> list[T]:
        """The items of all processes in the order that `own` took them from; small values without tensors.

        Args:
            own: one item for each of this process's.
        """
        own = list(own)
        if self.size == 1:
            return own
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, own)
        return [item for turn in zip_longest(*parts, fillvalue=_MISSING) for item in turn if item is not _MISSING]

    def in_order(self, count: int, own: Iterable[T]) -> Iterator[T]:
        """The items of all processes in the order that `own` took them from, each sent to all by the process that makes it.

        A process makes one item, then all send theirs in turn: at no time is more than one of its own held.

        Args:
            count: items of all processes.
            own: makes this process's, one after the other.
        """
        if self.size == 1:
            yield from own
            return
        makes, mine = iter(own), None
        for place in range(count):
            turn = place % self.size
            if turn == 0 and place + self.rank < count:
                mine = next(makes)
            yield self.broadcast(mine, turn)

    def broadcast(self, value: T, source: int = 0) -> T:
        """The value that process `source` has: anything that pickles, its tensors sent as they are, to this one's device."""
        if self.size == 1:
            return value
        message, tensors = _packed(value) if self.rank == source else (None, [])
        messages = [message]
        dist.broadcast_object_list(messages, source)
        if self.rank != source:
            tensors = [form.empty() for form in messages[0].forms]
        for tensor in tensors:
            if tensor.nbytes > INLINE:
                dist.broadcast(_as_bytes(tensor), source)
        return value if self.rank == source else messages[0].unpacked(tensors)

    def check_same(self, tensors: Iterable[Tensor], where: str) -> None:
        """NumericalError if this process's `tensors` are not the first one's: all go on from what they take to be equal."""
        if self.size == 1:
            return
        sums = [float(tensor.sum(dtype=torch.float64)) for tensor in tensors]
        if sums != self.broadcast(sums):
            what = f"process {self.rank + 1} of {self.size} has other values than the first one."
            raise NumericalError(what, where=where, remedy="Are their devices of one kind? Set `processes: 1`.")

    def add_up(self, tensor: Tensor) -> None:
        """Makes `tensor` in place its sum over processes, the same bits in each of them; what is added first is up to torch."""
        if self.size > 1:
            dist.all_reduce(tensor)


ALONE = World()
"""One process, which has all tasks; nothing of torch.distributed is used."""


@dataclass(frozen=True)
class _Form:
    """Of a tensor; `content` is that of a small one."""

    shape: torch.Size
    dtype: torch.dtype
    device: str
    content: bytes | None

    @classmethod
    def of(cls, tensor: Tensor) -> _Form:
        """Of a contiguous tensor."""
        small = _as_bytes(tensor).cpu().numpy().tobytes() if tensor.nbytes <= INLINE else None
        return cls(tensor.shape, tensor.dtype, tensor.device.type, small)

    def empty(self) -> Tensor:
        """A tensor with the content of a small one; a large one's is to come."""
        tensor = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        if self.content:
            _as_bytes(tensor).copy_(torch.frombuffer(bytearray(self.content), dtype=torch.uint8))
        return tensor


@dataclass(frozen=True)
class _Message:
    """A value's pickle without the tensors' contents, and the tensors' forms."""

    pickled: bytes
    forms: list[_Form]

    def unpacked(self, tensors: Sequence[Tensor]) -> Any:
        """The value with these tensors."""
        return _Unpacker(io.BytesIO(self.pickled), tensors).load()


def _packed(value: Any) -> tuple[_Message, list[Tensor]]:
    """The message that tells of `value`, and its tensors."""
    buffer = io.BytesIO()
    packer = _Packer(buffer)
    packer.dump(value)
    tensors = [tensor.contiguous() for tensor in packer.tensors]
    return _Message(buffer.getvalue(), list(map(_Form.of, tensors))), tensors


class _Packer(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer)
        self.tensors: list[Tensor] = []

    def persistent_id(self, item: Any) -> int | None:
        """The number of a tensor among those taken out."""
        if not isinstance(item, Tensor):
            return None
        self.tensors.append(item.detach())
        return len(self.tensors) - 1


class _Unpacker(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, tensors: Sequence[Tensor]) -> None:
        super().__init__(buffer)
        self._tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        """The tensor of that number."""
        return self._tensors[number]


def _as_bytes(tensor: Tensor) -> Tensor:
    """A view of a contiguous tensor's memory: backends know fewer types than torch."""
    return tensor.view(-1).view(torch.uint8)
