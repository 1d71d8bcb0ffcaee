"""What the quantization benchmark compares with: GPTQ as its reference repository loops, and calibration in FeatCal's style.

Written plainly after the published algorithms (Frantar et al., arXiv 2210.17323, Algorithm 1 and the repository's blocked loop;
FeatCal, arXiv 2605.13030), on the same blocks and inputs as ours, so that times compare. Not part of the project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pmqbench.families.base import Block, BlockModel
from pmqbench.quantization.problem import Expert
from pmqbench.quantization.streams import Stream, expert_stream


def reference_factor(second: Tensor, damping: float = 0.01) -> Tensor:
    """Upper Cholesky factor of the damped inverse, by three steps in float32; `second` is changed."""
    second.diagonal().add_(damping * second.diagonal().mean())
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(second)), upper=True)


def reference_columns(weight: Tensor, upper: Tensor, bits: int = 4, size: int = 128) -> Tensor:
    """The blocked loop over columns of a weight (out, in) with one asymmetric grid a row; returns the quantized weight."""
    weight, levels = weight.clone(), 2**bits - 1
    low, high = weight.amin(1).clamp(max=0), weight.amax(1).clamp(min=0)
    scale = (high - low) / levels
    zero = torch.round(-low / scale)
    result, losses = torch.zeros_like(weight), torch.zeros_like(weight)
    for start in range(0, weight.shape[1], size):
        stop = min(start + size, weight.shape[1])
        part = weight[:, start:stop].clone()
        rounded, errors, lost = torch.zeros_like(part), torch.zeros_like(part), torch.zeros_like(part)
        inner = upper[start:stop, start:stop]
        for i in range(stop - start):
            column, pivot = part[:, i], inner[i, i]
            codes = torch.clamp(torch.round(column.unsqueeze(1) / scale.unsqueeze(1)) + zero.unsqueeze(1), 0, levels)
            point = (scale.unsqueeze(1) * (codes - zero.unsqueeze(1))).flatten()
            rounded[:, i] = point
            lost[:, i] = (column - point) ** 2 / pivot**2
            error = (column - point) / pivot
            part[:, i:] -= error.unsqueeze(1).matmul(inner[i, i:].unsqueeze(0))
            errors[:, i] = error
        result[:, start:stop], losses[:, start:stop] = rounded, lost / 2
        weight[:, stop:] -= errors.matmul(upper[start:stop, stop:])
    return result


@torch.no_grad()
def reference_gptq(model: BlockModel, calibration: Mapping[str, Sequence[Any]]) -> None:
    """True-sequential GPTQ in place: a whole forward of the block for each group of layers and one more at its end.

    Every layer has its own second moment, q, k and v too.
    """
    states = [model.embed(batch) for batches in calibration.values() for batch in batches]
    for block in model.blocks:
        for group in block.groups:
            seconds = {name: _square(model, name) for name in group.layers}

            def accumulate(name: str, seconds: dict[str, Tensor] = seconds) -> Any:
                def hook(_: Any, args: tuple[Tensor, ...]) -> None:
                    x = args[0].flatten(0, -2)
                    seconds[name] += x.T @ x

                return hook

            handles = [model.get_submodule(name).register_forward_pre_hook(accumulate(name)) for name in group.layers]
            for state in states:
                model.run_block(block, state)
            for handle in handles:
                handle.remove()
            for name in group.layers:
                module = model.get_submodule(name)
                module.weight.data = reference_columns(module.weight.data, reference_factor(seconds[name]))
        states = [model.run_block(block, state) for state in states]


@torch.no_grad()
def featcal_style(
    model: BlockModel, calibration: Mapping[str, Sequence[Any]], experts: Mapping[str, Expert], anchor: float = 0.05
) -> None:
    """Calibrates in place, without rounding: student and expert forwards, two moments a linear layer, q, k and v apart.

    Block by block: W* = (sum_t W_t E[y x^T] + anchor mu W) (H + anchor mu I)^-1 with x the student's inputs and y the expert's.
    """
    student = Stream(model, {task: [model.embed(batch) for batch in batches] for task, batches in calibration.items()})
    teacher = expert_stream(experts, calibration, next(model.parameters()).device)
    for block in model.blocks:
        layers = [name for group in block.groups for name in group.layers]
        sums = {name: [_square(model, name), torch.zeros_like(model.get_submodule(name).weight)] for name in layers}
        for task, states in student.states.items():
            teacher.enter(task, block)
            moments = {name: [_square(model, name), _square(model, name)] for name in layers}
            for state, own in zip(states, teacher.states[task], strict=True):
                xs, ys = _inputs(student, block, state, layers), _inputs(teacher, block, own, layers)
                for name, (second, cross) in moments.items():
                    second += xs[name].T @ xs[name]
                    cross += ys[name].T @ xs[name]
            for name, (second, cross) in moments.items():
                weight = experts[task].tensor(f"{name}.weight", model.get_submodule(name).weight)
                sums[name][0] += second
                sums[name][1] += weight @ cross
        for name, (second, right) in sums.items():
            module = model.get_submodule(name)
            pull = anchor * second.diagonal().mean()
            second.diagonal().add_(pull)
            module.weight.data = torch.linalg.solve(second, right + pull * module.weight, left=False)
        student.advance(block, range(block.stages))
        teacher.advance(block, range(block.stages))


def _square(model: BlockModel, name: str) -> Tensor:
    weight = model.get_submodule(name).weight
    return weight.new_zeros(weight.shape[1], weight.shape[1])


def _inputs(stream: Stream, block: Block, state: Any, layers: Sequence[str]) -> dict[str, Tensor]:
    return stream.inputs(block, range(block.stages), state, layers)
