"""Streams: the states of every task's calibration batches in front of the current block, and the model that moves them on.

Block inputs are cached once per task and batch; a layer's inputs are taken by a hook that stops the forward pass there.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pmqbench.errors import DataError
from pmqbench.families.base import Block, BlockModel
from pmqbench.quantization.base import Precision
from pmqbench.quantization.problem import Expert

log = logging.getLogger(__name__)

T, R = TypeVar("T"), TypeVar("R")


class _Stop(Exception):  # noqa: N818 - ends a forward pass early, no error
    pass


@dataclass
class Stream:
    """States of each task's batches before the current block.

    Attributes:
        model: runs the blocks.
        states: by task, one state a batch.
        enter: called with (task, block) before the task's states run through a block: puts the task's weights in place.
        precision: of the forward passes.
    """

    model: BlockModel
    states: dict[str, list[Any]]
    enter: Callable[[str, Block], None] = lambda task, block: None
    precision: Precision = "float32"

    def run(self, block: Block, stages: range, state: Any) -> Any:
        """The state before the first of consecutive `stages` -> the state after the last."""
        with computing_in(self.precision, next(self.model.parameters()).device.type):
            for stage in stages:
                state = self.model.run_stage(block, stage, state)
        return state

    def inputs(self, block: Block, stages: range, state: Any, layers: Sequence[str]) -> dict[str, Tensor]:
        """The inputs (tokens, in) of `layers`, which stand in forward order; nothing after the last one's input is computed.

        Args:
            block: the block that has the layers.
            stages: the stages that run them; `state` stands before the first.
            state: of one batch.
            layers: module names.
        """
        caught: dict[str, Tensor] = {}

        def hook(layer: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def catch(_: nn.Module, args: tuple[Tensor, ...]) -> None:
                caught[layer] = args[0].flatten(0, -2).float()
                if layer == layers[-1]:
                    raise _Stop

            return catch

        handles = [self.model.get_submodule(layer).register_forward_pre_hook(hook(layer)) for layer in layers]
        try:
            self.run(block, stages, state)
        except _Stop:
            return caught
        finally:
            for handle in handles:
                handle.remove()
        raise ValueError(f"{block.name} never runs {layers[-1]}: the family's groups are not those of its blocks")

    def advance(self, block: Block, stages: range) -> None:
        """Runs every state through `stages`; each old state goes as its successor comes."""
        for task, states in self.states.items():
            self.enter(task, block)
            for index, state in enumerate(states):
                states[index] = self.run(block, stages, state)

    def size(self) -> int:
        """Bytes of all states."""
        return sum(tensor.nbytes for states in self.states.values() for tensor in state_tensors(states))


@contextmanager
def computing_in(precision: Precision, device: str) -> Iterator[None]:
    """Runs what is inside in float32, with TF32 products (a GPU's), or in bfloat16 where autocast thinks it safe."""
    if precision == "bfloat16":
        with torch.autocast(device, torch.bfloat16):
            yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def expert_stream(
    experts: Mapping[str, Expert],
    calibration: Mapping[str, Sequence[Any]],
    device: torch.device,
    precision: Precision = "float32",
) -> Stream:
    """Each task's batches in the task's own expert.

    One expert's model is kept; before it runs another task's states, that expert's tensors of the block are read into it.
    """
    states: dict[str, list[Any]] = {}
    for task, batches in calibration.items():
        model = experts[task].build().to(device)
        states[task] = [model.embed(batch) for batch in batches]
    return Stream(model, states, _reading(experts, model), precision)


def expert_blocks(experts: Mapping[str, Expert], student: Stream, device: torch.device) -> Stream:
    """The student's states, which its own advance moves on, in front of each task's expert's block."""
    task = next(iter(student.states))
    model = experts[task].build().to(device)
    return Stream(model, student.states, _reading(experts, model), student.precision)


def _reading(experts: Mapping[str, Expert], model: BlockModel) -> Callable[[str, Block], None]:
    """A stream's `enter` that reads the block of the task's expert into `model`."""

    def enter(task: str, block: Block) -> None:
        for part in (block.name, *block.also):
            body = model.get_submodule(part)
            tensors = {name: experts[task].tensor(f"{part}.{name}", like) for name, like in body.state_dict().items()}
            body.load_state_dict(tensors, assign=True)

    return enter


def merged_stream(student: Stream) -> Stream:
    """The same states in a copy of the model, which stays as it is while the model is quantized."""
    states = {task: list(own) for task, own in student.states.items()}
    return Stream(copy.deepcopy(student.model), states, precision=student.precision)


def ahead(items: Iterable[T], read: Callable[[T], R]) -> Iterator[R]:
    """`read` of each item in order, the next one read by a thread while the caller works on the last."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting: Future[R] | None = None
        for item in items:
            last, waiting = waiting, reader.submit(read, item)
            if last is not None:
                yield last.result()
        if waiting is not None:
            yield waiting.result()


def sample_count(batch: Any) -> int:
    """Samples of a batch: a tensor, or a mapping of tensors, whose first dimension they are."""
    return len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)


def calibration_counts(calibration: Mapping[str, Sequence[Any]], asked: int, strict: bool) -> dict[str, int]:
    """How many samples each task is calibrated with: `asked`, or all that its training split has, with a warning.

    Args:
        calibration: task -> batches.
        asked: samples a task that the config asks for.
        strict: whether fewer are an error.

    Raises:
        DataError: a task has fewer, and `strict` is set.
    """
    counts = {task: sum(map(sample_count, batches)) for task, batches in calibration.items()}
    for task, count in counts.items():
        if count == asked:
            continue
        where, remedy = f"calibration of task {task}", "Lower `calibration.samples`, or give the task more training examples"
        if strict:
            raise DataError(f"{asked} samples are asked for, and the data have {count}.", where=where, remedy=f"{remedy}.")
        log.warning("%s: %d samples are asked for, and the data have %d, which are all used. %s.", where, asked, count, remedy)
    return counts


def first_samples(batch: Any, count: int) -> Any:
    """The first `count` samples of a batch."""
    return {name: part[:count] for name, part in batch.items()} if isinstance(batch, Mapping) else batch[:count]


def select(state: Any, rows: Sequence[int]) -> Any:
    """The samples `rows` of a state between blocks: a tensor, or a dict of tensors, some of which all samples may share."""
    if not isinstance(state, Mapping):
        return state[rows]
    count = sample_count(state)
    return {name: part[rows] if len(part) == count else part for name, part in state.items()}


def join(states: Sequence[Any]) -> Any:
    """The samples of states that `select` gave, as one state; what samples share must be the same in all."""
    if not isinstance(states[0], Mapping):
        return torch.cat(list(states))
    own = [name for name in states[0] if all(len(state[name]) == sample_count(state) for state in states)]
    return states[0] | {name: torch.cat([state[name] for state in states]) for name in own}


def state_tensors(state: Any) -> list[Tensor]:
    """The floating-point tensors in a state: a tensor, or tuples, lists and dicts of states."""
    if isinstance(state, Tensor):
        return [state] if state.is_floating_point() else []
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (tuple, list)) else ()
    return [tensor for part in parts for tensor in state_tensors(part)]
