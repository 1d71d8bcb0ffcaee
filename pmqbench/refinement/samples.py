"""Calibration samples of all tasks in one row, and which of them a step sees."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pmqbench.quantization.streams import sample_count

MASK, IDS = "attention_mask", "input_ids"  # of the encoder's tokens; the decoder's have a prefix before both


@dataclass(frozen=True)
class Samples:
    """The inputs of all tasks, task after task.

    Attributes:
        inputs: a tensor (samples, ...), or a mapping of them, texts padded to the longest.
        counts: samples by task.
    """

    inputs: Any
    counts: dict[str, int]

    @classmethod
    def of(cls, batches: Mapping[str, Sequence[Any]]) -> Samples:
        """From batches by task."""
        counts = {task: sum(map(sample_count, parts)) for task, parts in batches.items()}
        return cls(_joined([batch for parts in batches.values() for batch in parts]), counts)

    def take(self, index: Tensor) -> Any:
        """The batch of the samples `index` (n,), texts cut to the longest of them."""
        if not isinstance(self.inputs, Mapping):
            return self.inputs[index]
        return trimmed({name: part[index] for name, part in self.inputs.items()})

    def task_of(self, index: Tensor) -> Tensor:
        """Number of the task of each sample (n,)."""
        ends = torch.tensor(list(self.counts.values())).cumsum(0)
        return torch.bucketize(index, ends, right=True)


def trimmed(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Token ids and masks without the columns that are padding in every row."""
    cut = dict(batch)
    for name in batch:
        if name.endswith(MASK):
            ids = name.removesuffix(MASK) + IDS
            longest = int(batch[name].any(0).nonzero().max()) + 1
            cut |= {name: batch[name][:, :longest], ids: batch[ids][:, :longest]}
    return cut


def _joined(batches: Sequence[Any]) -> Any:
    if not isinstance(batches[0], Mapping):
        return torch.cat(list(batches))
    return {name: _padded([batch[name] for batch in batches]) for name in batches[0]}


def _padded(parts: Sequence[Tensor]) -> Tensor:
    longest = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, longest - part.shape[1])) for part in parts])


@dataclass(frozen=True)
class Draws:
    """Which samples are held out, and which a step trains on: a function of seed and step, so that nothing is to be saved.

    Attributes:
        counts: samples by task.
        held: samples held out, by task: the task's first ones, drawn at random as all of them are.
        batch_size: samples a step, as many of each task.
        seed: of the order.
        tasks: how many share a step; those of other processes are not among `counts`.
    """

    counts: dict[str, int]
    held: dict[str, int]
    batch_size: int
    seed: int
    tasks: int

    @classmethod
    def of(cls, counts: dict[str, int], share: float, batch_size: int, seed: int, tasks: int) -> Draws:
        """Holds out `share` of every task's samples, at least one unless it is 0."""
        held = {task: max(1, int(share * count)) if share else 0 for task, count in counts.items()}
        return cls(counts, held, batch_size, seed, tasks)

    def held_out(self) -> list[tuple[Tensor, ...]]:
        """Indices of each task's held-out samples, in parts of at most a step's size; [] if none are held out."""
        held = ((self.held[task], first) for task, first in self._firsts())
        return [(torch.arange(count) + first).split(self.batch_size) for count, first in held if count]

    def step(self, number: int) -> Tensor:
        """Indices of a step's samples (at most batch_size, or one a task): every task's go round in a new order each time."""
        return torch.cat([self._of_task(task, number) + first for task, first in self._firsts()])

    def _firsts(self) -> list[tuple[str, int]]:
        starts = np.cumsum([0, *self.counts.values()]).tolist()
        return list(zip(self.counts, starts, strict=False))

    def _of_task(self, task: str, number: int) -> Tensor:
        usable = self.counts[task] - self.held[task]
        size = min(usable, max(1, self.batch_size // self.tasks))
        epoch, place = divmod(number, usable // size)
        order = _order(self.seed, task, epoch, usable)
        return order[place * size : (place + 1) * size] + self.held[task]


@lru_cache(maxsize=64)
def _order(seed: int, task: str, epoch: int, count: int) -> Tensor:
    rng = np.random.default_rng([seed, zlib.crc32(task.encode()), epoch])
    return torch.from_numpy(rng.permutation(count))
