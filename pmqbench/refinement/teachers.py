"""What the experts teach: their states on their own tasks' samples, computed once, and how far a student's are from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pmqbench.families.base import Block, BlockModel
from pmqbench.quantization.base import Precision
from pmqbench.quantization.problem import Expert
from pmqbench.quantization.streams import computing_in
from pmqbench.refinement.samples import Samples

log = logging.getLogger(__name__)

Run = Callable[[BlockModel, Block, Any], Any]
Point = tuple[Tensor, Tensor | None]
"""States (n, tokens, width) that are compared, and the mask of real tokens."""
Rows = tuple[Tensor, Tensor]
"""Real tokens' states (tokens, width), and each sample's number of tokens (n,)."""


def run_block(model: BlockModel, block: Block, state: Any) -> Any:
    """The state behind a block, of the last one what is needed."""
    return model.run_last_block(state) if block is model.blocks[-1] else model.run_block(block, state)


def points(model: BlockModel, batch: Any, blocks: bool, run: Run = run_block) -> list[Point]:
    """The states that are compared: behind every block, if `blocks`, and those that the answer is read from.

    No gradient reaches what comes before the first block.

    Args:
        model: student or expert.
        batch: its input.
        blocks: whether the states behind blocks are among them.
        run: runs a block.
    """
    with torch.no_grad():
        state = model.embed(batch)
    found = []
    for block in model.blocks:
        state = run(model, block, state)
        if blocks:
            found.append(model.hidden(block, state))
    return [*found, model.features(state)]


@dataclass(frozen=True)
class Targets:
    """Experts' states at one point, on the samples of one or more tasks.

    Attributes:
        rows: (tokens of all samples, width), real tokens alone, sample after sample.
        counts: (samples,) each sample's number of rows.
        variance: (tasks,) mean over a task's rows of the squared distance to their mean.
    """

    rows: Tensor
    counts: Tensor
    variance: Tensor

    @classmethod
    def of_task(cls, rows: Tensor, counts: Tensor, dtype: torch.dtype) -> Targets:
        """Of one task, from rows (tokens, width) in float32, whose variance is taken before they are kept in `dtype`."""
        variance = rows.var(0, correction=0).sum(0, keepdim=True).cpu()
        # States that never change tell nothing; they are compared as they are.
        return cls(rows.to(dtype), counts, variance.where(variance > 0, 1.0))

    @classmethod
    def joined(cls, parts: Sequence[Targets]) -> Targets:
        """Of all tasks together."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("rows", "counts", "variance")))

    @cached_property
    def first(self) -> Tensor:
        """(samples,) where each sample's rows begin."""
        return self.counts.cumsum(0) - self.counts

    def error(self, point: Point, index: Tensor, tasks: Tensor) -> Tensor:
        """Mean over tasks of E|student - expert|^2 / Var(expert), E over the task's real tokens.

        Args:
            point: the student's states.
            index: samples (n,), in the student's order.
            tasks: task of each (n,).
        """
        states, mask = point
        device = states.device
        lengths = self.counts[index]
        # A sample's rows lie side by side: its first, less the rows that precede it here, plus the row's own position.
        shift = torch.repeat_interleave(self.first[index] - (lengths.cumsum(0) - lengths), lengths)
        wanted = self.rows[(shift + torch.arange(len(shift))).to(device)].float()
        found = states.flatten(0, 1) if mask is None else states[mask]
        tokens = torch.zeros(len(self.variance), dtype=lengths.dtype).index_add_(0, tasks, lengths)
        weight = 1 / (self.variance * tokens * len(tasks.unique()))
        rows = torch.repeat_interleave(weight[tasks], lengths).to(device)
        return ((found.float() - wanted).square().sum(-1) * rows).sum()  # a product of matrices would be autocast


@dataclass(frozen=True)
class Lesson:
    """What all experts teach.

    Attributes:
        samples: inputs of all tasks, as the students read them.
        targets: at each point of `points`.
        block_weight: weight of the mean over blocks; the last point weighs 1.
    """

    samples: Samples
    targets: list[Targets]
    block_weight: float

    def loss(self, found: Sequence[Point], index: Tensor) -> Tensor:
        """Block term and output term, tasks alike.

        Args:
            found: the student's points of the samples `index` (n,).
            index: the samples.
        """
        tasks = self.samples.task_of(index)
        *blocks, output = (target.error(point, index, tasks) for target, point in zip(self.targets, found, strict=True))
        return output + self.block_weight * torch.stack(blocks).mean() if blocks else output


def teach(
    calibration: Mapping[str, Sequence[Any]],
    experts: Mapping[str, Expert],
    device: torch.device,
    block_weight: float,
    precision: Precision,
) -> Lesson:
    """Runs every expert on its task's samples. Blocks' states are kept in bfloat16: 2^-9 is far below what models differ by.

    Args:
        calibration: task -> batches.
        experts: task -> expert.
        device: where experts run, and their states stay.
        block_weight: as in Lesson; 0 keeps no states of blocks.
        precision: of the experts' forward passes.
    """
    read: dict[str, list[Any]] = {}
    taught: list[list[Targets]] = []
    for task, batches in calibration.items():
        model = experts[task].build().to(device)
        read[task] = [model.with_own_answers(batch, f"{experts[task].label}, task {task}") for batch in batches]
        with torch.no_grad(), computing_in(precision, device.type):
            found = [[_rows(point) for point in points(model, batch, block_weight > 0)] for batch in read[task]]
        *blocks, output = ([torch.cat(part) for part in zip(*point, strict=True)] for point in zip(*found, strict=True))
        kept = [Targets.of_task(*block, torch.bfloat16) for block in blocks]
        taught.append([*kept, Targets.of_task(*output, torch.float32)])
    samples, targets = Samples.of(read), [Targets.joined(parts) for parts in zip(*taught, strict=True)]
    megabytes = sum(target.rows.nbytes for target in targets) / 1e6
    log.info("states of %d experts on %d samples: %.0f MB", len(taught), sum(samples.counts.values()), megabytes)
    return Lesson(samples, targets, block_weight)


def _rows(point: Point) -> Rows:
    states, mask = point
    if mask is None:
        return states.flatten(0, 1).float(), torch.full((len(states),), states.shape[1])
    return states[mask].float(), mask.sum(1).cpu()
