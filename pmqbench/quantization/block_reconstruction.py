"""Block reconstruction: learns the rounding of a block's layers together, so that the block's output becomes the teacher's.

    least over V, a, b of    sum_t c_t E|B_Q(h) - B_t(h_t)|^2        c_t = 1 / (T var B_t(h_t))

h is the state in front of the block in the model as quantized so far, h_t the teacher's own; the mean is over a sample's
tokens, of which those that never reach the model's output weigh 0.01 (in a ViT's last block), and over samples. SignSGD without
momentum on samples drawn evenly over tasks, with a rate that falls linearly (Cheng et al., arXiv 2309.05516). An eighth of each
task's samples is never trained on: what does best there is kept, and the start where nothing does better.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from pmqbench.errors import DataError
from pmqbench.families.base import Block
from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.learned_rounding import LearnedRounding, latent_codes
from pmqbench.quantization.problem import Problem, Solution, place
from pmqbench.quantization.run import Run
from pmqbench.quantization.streams import join, sample_count, select, state_tensors
from pmqbench.torch_setup import strictly_deterministic

log = logging.getLogger(__name__)

HELD_OUT = 8  # one of so many samples
CHECKS = 10  # how often the held-out samples are looked at

Pick = tuple[str, int, int]
"""Task, batch, row: a sample."""


def reconstruct_block(run: Run, block: Block, solved: list[tuple[Problem, Solution]], steps: int, batch_size: int) -> None:
    """Learns the rounding of `solved`, changes the solutions and puts them in place.

    Args:
        run: with the student's states in front of the block, and the reference's behind it.
        block: the block.
        solved: its layers' problems and solutions, in place; nothing happens to unrounded ones.
        steps: of SignSGD, whose first has a rate of 1 / steps.
        batch_size: samples a step.
    """
    if any(solution.codes is None for _, solution in solved):
        return
    data = _Data.of(run, block)
    with _learning(solved) as roundings:
        start = least = data.held_out_loss()
        best = None
        for step, picks in enumerate(islice(_batches(data.train, batch_size), steps)):
            with torch.enable_grad(), parametrize.cached(), strictly_deterministic():
                data.losses(picks).mean().backward()
            for rounding in roundings:
                rounding.descend((1 - step / steps) / steps)
            if (step + 1) % max(1, steps // CHECKS) == 0:
                loss = data.held_out_loss()
                if loss < least:
                    least, best = loss, [rounding.coded() for rounding in roundings]
    log.info("%s: held-out error %.4g of the teacher's variance, %.4g before reconstruction", block.name, least, start)
    if best is None:
        log.warning("%s: reconstruction did not lower the held-out error, so the rounding it began with is kept.", block.name)
        return
    layers = iter(best)
    for problem, solution in solved:
        solution.codes = _stacked(list(islice(layers, len(problem.names))))
        solution.weight, grid = solution.codes.weight(), solution.codes.grid()
        solution.nearest = grid.decode(grid.encode(solution.target))
        place(problem, solution)


@contextmanager
def _learning(solved: Sequence[tuple[Problem, Solution]]) -> Iterator[list[LearnedRounding]]:
    """The layers with weights that follow from roundings, started where they are; afterwards as before."""
    modules, roundings = [], []
    for problem, solution in solved:
        latent = latent_codes(solution)
        for module, (start, stop) in zip(problem.modules, problem.rows(), strict=True):
            coded = solution.codes
            zero = None if coded.zero is None else coded.zero[start:stop]
            rows = LayerCodes(coded.bits, coded.codes[start:stop], coded.scale[start:stop], zero)
            roundings.append(LearnedRounding(rows, latent[start:stop]))
            modules.append(module)
            parametrize.register_parametrization(module, "weight", roundings[-1])
    try:
        yield roundings
    finally:
        for module in modules:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)


@dataclass
class _Data:
    """Samples of every task, and what the block should make of them.

    Attributes:
        run, block: as of `reconstruct_block`.
        train, held: samples by task.
        share: c_t by task, times the number of tasks.
    """

    run: Run
    block: Block
    train: dict[str, list[Pick]]
    held: dict[str, list[Pick]]
    share: dict[str, float]

    @classmethod
    def of(cls, run: Run, block: Block) -> _Data:
        """Splits the calibration samples of every task; DataError for a task with one sample."""
        train, held = {}, {}
        generator = torch.Generator().manual_seed(0)
        for task, states in run.student.states.items():
            picks = [(task, batch, row) for batch, state in enumerate(states) for row in range(sample_count(state))]
            if len(picks) < 2:
                what = "block reconstruction needs a sample to train on and one to check with."
                raise DataError(what, where=f"calibration of {task}", remedy="Raise `calibration_samples`.")
            picks = [picks[place] for place in torch.randperm(len(picks), generator=generator).tolist()]
            count = max(1, len(picks) // HELD_OUT)
            held[task], train[task] = picks[:count], picks[count:]
        data = cls(run, block, train, held, dict.fromkeys(train, 1.0))
        data.share = {task: 1 / max(data._variance(task), torch.finfo(torch.float32).tiny) for task in train}
        return data

    def losses(self, picks: Iterable[Pick]) -> Tensor:
        """Loss of every sample (n,), with c_t times the number of tasks."""
        rows: dict[tuple[str, int], list[int]] = defaultdict(list)
        for task, batch, row in picks:
            rows[task, batch].append(row)
        pieces: dict[Any, list[tuple[Any, Tensor, Tensor]]] = defaultdict(list)
        for (task, batch), chosen in rows.items():
            piece = self._piece(task, batch, chosen)
            pieces[piece[1].shape[1:], _shapes(piece[0])].append(piece)
        return torch.cat([self._losses(*map(join, zip(*alike, strict=True))) for alike in pieces.values()])

    def held_out_loss(self) -> float:
        """Mean over tasks of the mean over their held-out samples."""
        with parametrize.cached():
            return sum(float(self.losses(picks).mean()) for picks in self.held.values()) / len(self.held)

    def _piece(self, task: str, batch: int, rows: list[int]) -> tuple[Any, Tensor, Tensor]:
        """State before the block, what should stand behind it (n, tokens, width), and c_t times token weights (n, tokens)."""
        state = select(self.run.student.states[task][batch], rows)
        wanted = self._wanted(task, batch)[rows]
        weights = self.run.model.token_weights(self.block, self.block.groups[-1].layers[0], state, class_only=True)
        weights = torch.ones(wanted.shape[:2], device=wanted.device) if weights is None else weights.view(wanted.shape[:2])
        return state, wanted, self.share[task] * weights / weights.sum(1, keepdim=True).clamp(min=1)

    def _losses(self, state: Any, wanted: Tensor, weights: Tensor) -> Tensor:
        out = self.run.student.run(self.block, range(self.block.stages), state)
        hidden, _ = self.run.model.hidden(self.block, out)
        return ((hidden.float() - wanted).square().sum(-1) * weights).sum(1)

    def _wanted(self, task: str, batch: int) -> Tensor:
        hidden, _ = self.run.model.hidden(self.block, self.run.reference.states[task][batch])
        return hidden.float()

    def _variance(self, task: str) -> float:
        """Weighted mean over the training samples of |x - mean x|^2, x what should stand behind the block."""
        rows: dict[int, list[int]] = defaultdict(list)
        for _, batch, row in self.train[task]:
            rows[batch].append(row)
        total, first, second = 0.0, 0.0, 0.0
        for batch, chosen in rows.items():
            _, wanted, weights = self._piece(task, batch, chosen)
            total += float(weights.sum())
            first = first + (wanted * weights[..., None]).sum((0, 1)).double()
            second += float((wanted.square().sum(-1) * weights).sum())
        return second / total - float((first / total).square().sum())


def _batches(train: dict[str, list[Pick]], batch_size: int) -> Iterator[list[Pick]]:
    """Samples of the tasks in turn, each task's going round."""
    rounds = {task: cycle(picks) for task, picks in train.items()}
    turns = cycle(rounds.values())
    while True:
        yield [next(picks) for picks in islice(turns, batch_size)]


def _shapes(state: Any) -> tuple[torch.Size, ...]:
    """Shapes of what samples have of their own: alike states can be joined."""
    return tuple(tensor.shape[1:] for tensor in state_tensors(state))


def _stacked(layers: Sequence[LayerCodes]) -> LayerCodes:
    """Layers that share an input, as one."""
    zero = None if layers[0].zero is None else torch.cat([layer.zero for layer in layers])
    codes, scale = (torch.cat([getattr(layer, part) for layer in layers]) for part in ("codes", "scale"))
    return LayerCodes(layers[0].bits, codes, scale, zero)
