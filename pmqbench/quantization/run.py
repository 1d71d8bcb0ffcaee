"""A quantization in progress: the model, the streams that the method asks for, and what came out so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pmqbench.distributed import ALONE, World
from pmqbench.errors import DataError
from pmqbench.families.base import Block, BlockModel
from pmqbench.quantization.base import Quantizer, Sampling
from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.problem import Expert
from pmqbench.quantization.streams import Stream, expert_blocks, expert_stream, first_samples, merged_stream, sample_count


@dataclass
class Run:
    """A quantization in progress. Streams are None where the method needs none; they stand before `stages` of a block.

    The moments are of the inputs that `source` has: the student itself, or the experts (`Sampling.inputs`).
    `reference`, whose states are what block outputs should be, moves on before a block's layers are reconstructed.
    Streams have the states of this process's tasks; `tasks` are those of all processes of `world`, in the suite's order.
    """

    model: BlockModel
    method: Quantizer
    sampling: Sampling | None
    experts: Mapping[str, Expert]
    base: Expert | None = None
    world: World = ALONE
    tasks: list[str] = field(default_factory=list)
    student: Stream | None = None
    source: Stream | None = None
    teacher: Stream | None = None
    probe: Stream | None = None
    reference: Stream | None = None
    stages: range = range(1)
    codes: dict[str, LayerCodes] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)

    def enter(self, task: str, block: Block) -> None:
        """Readies source and teacher for the task's states."""
        for stream in (self.source, self.teacher):
            if stream is not None:
                stream.enter(task, block)

    def inputs(self, stream: Stream, task: str, index: int, block: Block, layers: Sequence[str]) -> dict[str, Tensor]:
        """The inputs of `layers`, which the current stages run, for one batch of a stream; a teacher's after `enter`."""
        return stream.inputs(block, self.stages, stream.states[task][index], layers)

    def advance(self, block: Block) -> None:
        """Runs every stream through the current stages, unless nobody reads what comes out."""
        if block is self.model.blocks[-1] and self.stages.stop == block.stages:
            return
        for stream in (self.student or self.source, self.teacher, self.probe):
            if stream is not None and stream is not self.reference:
                stream.advance(block, self.stages)


def start(
    model: BlockModel,
    method: Quantizer,
    calibration: Mapping[str, Sequence[Any]],
    experts: Mapping[str, Expert],
    base: Expert | None = None,
    world: World = ALONE,
) -> Run:
    """A run before the first block; arguments and errors are those of `quantize_model`."""
    sampling = method.sampling()
    if method.uses_base and base is None:
        raise DataError("the method needs the base's weights.", where="base", remedy="Give the base that experts stem from.")
    run = Run(model, method, sampling, experts, base if method.uses_base else None, world)
    if sampling is None:
        return run
    _check_calibration(calibration)
    run.tasks = world.all_of(calibration)
    missing = sorted(set(calibration) - set(experts))
    if "experts" in (sampling.teacher, sampling.block_outputs) and missing:
        raise DataError(
            f"no expert for {', '.join(missing)}.", where="calibration", remedy="Every calibration task needs its expert."
        )
    _start_streams(run, sampling, calibration)
    return run


def _start_streams(run: Run, sampling: Sampling, calibration: Mapping[str, Sequence[Any]]) -> None:
    model, device = run.model, _device(run.model)
    if sampling.inputs == "expert":
        run.source = expert_stream(run.experts, calibration, device, sampling.precision)
    else:
        states = {task: [model.embed(batch) for batch in batches] for task, batches in calibration.items()}
        run.student = run.source = Stream(model, states, precision=sampling.precision)
        if sampling.inputs == "expert_block":
            run.source = expert_blocks(run.experts, run.student, device)
    if sampling.teacher is not None and sampling.teacher_share > 0:
        run.teacher = _stream_of(sampling.teacher, run, calibration)
    if sampling.block_outputs is not None:
        shared = run.teacher is not None and sampling.block_outputs == sampling.teacher
        run.reference = run.teacher if shared else _stream_of(sampling.block_outputs, run, calibration)
    if sampling.probe_samples:
        first = {task: first_samples(batches[0], sampling.probe_samples) for task, batches in calibration.items()}
        run.probe = Stream(model, {task: [model.embed(batch)] for task, batch in first.items()})


def _stream_of(whose: str, run: Run, calibration: Mapping[str, Sequence[Any]]) -> Stream:
    """Each task's batches in its expert, or in the merged model as it is now."""
    if whose == "experts":
        return expert_stream(run.experts, calibration, _device(run.model), run.sampling.precision)
    return merged_stream(run.student)


def _check_calibration(calibration: Mapping[str, Sequence[Any]]) -> None:
    if not calibration:
        raise DataError("there is no calibration task.", where="calibration", remedy="Give at least one task.")
    for task, batches in calibration.items():
        if not batches or any(sample_count(batch) == 0 for batch in batches):
            what = "the calibration set is empty or has an empty batch."
            raise DataError(what, where=f"calibration of {task}", remedy="Check its data set.")


def _device(model: BlockModel) -> torch.device:
    return next(model.parameters()).device
