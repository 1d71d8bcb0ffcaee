"""What passes between the layer loop and a method: experts, the problem of one stack of layers, and its solution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pmqbench.checkpoints import Checkpoint, check_finite
from pmqbench.errors import DataError
from pmqbench.families.base import BlockModel, Group
from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.metric import Metric
from pmqbench.quantization.moments import Moments, Teacher


@dataclass(frozen=True)
class Expert:
    """An expert of one task.

    Attributes:
        label: what messages call it.
        weights: its checkpoint, under the canonical names that are also the model's state_dict names.
        build: builds the model of it; called only where the expert's own inputs are needed.
    """

    label: str
    weights: Checkpoint
    build: Callable[[], BlockModel]
    _checked: set[str] = field(default_factory=set, repr=False, compare=False)

    def tensor(self, name: str, like: Tensor) -> Tensor:
        """A tensor of the expert in float32 on `like`'s device; DataError if its shape is not `like`'s."""
        stored = self.weights.tensor(name)
        if like.device.type == "cuda":
            stored = stored.pin_memory()
        tensor = stored.to(like.device, torch.float32, non_blocking=True)
        if tensor.shape != like.shape:
            raise DataError(
                f'tensor "{name}" has shape {tuple(tensor.shape)}, the merged model\'s has {tuple(like.shape)}.',
                where=self.label,
                remedy="Experts and merged model must be of one architecture.",
            )
        if name not in self._checked:
            check_finite(tensor, f"{self.label}: {name}")
            self._checked.add(name)
        return tensor


@dataclass
class Problem:
    """Layers of one group that share their input and its moments; their rows are stacked into one solve.

    Attributes:
        group: the group they are of.
        names, modules: the layers.
        where: what messages call them.
        merged, merged_bias: W_merged (out, in) and b_merged (out,) or None, as the layers were before anything was changed.
        in_scale: scales (in,) folded into the weights' columns, out_scale: factors (out,) folded into their rows; None: none.
        clipped: rows (out,) that a clip search may touch.
        base: the base's weights and biases, if the method uses them.
        moments: pooled moments of the inputs as they were collected (before in_scale); None for uncalibrated methods.
        seconds: time spent on these layers so far.
    """

    group: Group
    names: tuple[str, ...]
    modules: tuple[nn.Linear, ...]
    where: str
    merged: Tensor
    clipped: Tensor
    in_scale: Tensor | None = None
    out_scale: Tensor | None = None
    merged_bias: Tensor | None = None
    base: Teacher | None = None
    moments: Moments | None = None
    seconds: float = 0.0

    @property
    def weight(self) -> Tensor:
        """The weights to quantize (out, in), with folded scales."""
        return stack([module.weight for module in self.modules])

    @property
    def bias(self) -> Tensor | None:
        """The layers' biases (out,); None if they have none."""
        return stack_bias([module.bias for module in self.modules])

    def rows(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of each layer's rows."""
        start = 0
        for module in self.modules:
            yield start, start + module.out_features
            start += module.out_features

    def unfolded(self, weight: Tensor) -> Tensor:
        """`weight` without the folded scales: what it does to the inputs as they were collected."""
        if self.in_scale is not None:
            weight = weight / self.in_scale
        return weight if self.out_scale is None else weight / self.out_scale[:, None]

    def expert_teacher(self, expert: Expert) -> Teacher:
        """The stacked weights and biases of an expert, or of the base."""
        pairs = list(zip(self.names, self.modules, strict=True))
        weights = [expert.tensor(f"{name}.weight", module.weight) for name, module in pairs]
        biases = [None if module.bias is None else expert.tensor(f"{name}.bias", module.bias) for name, module in pairs]
        return Teacher(stack(weights), stack_bias(biases))

    def merged_teacher(self) -> Teacher:
        """The merged model itself."""
        return Teacher(self.merged, self.bias)


@dataclass
class Solution:
    """What a method makes of a Problem.

    Attributes:
        target: the matrix that was rounded (out, in), with folded scales.
        weight: the final weight (out, in), float32.
        codes: codes that give `weight` back bit for bit; None if it is not rounded.
        metric: the factorised metric of the solver, None for methods without.
        anchor: weight of mu |Q - W_merged - pull|^2 in the objective that was minimised.
        nearest: `target` rounded to nearest on the same grid, to compare with.
        remedies: what was done about singular moments.
        bias: fitted biases (out,); None leaves them.
        pull: how far the anchor lies from W_merged (out, in); None: not at all.
    """

    target: Tensor
    weight: Tensor
    codes: LayerCodes | None
    nearest: Tensor
    metric: Metric | None = None
    anchor: float = 0.0
    remedies: list[str] = field(default_factory=list)
    bias: Tensor | None = None
    pull: Tensor | None = None


def place(problem: Problem, solution: Solution) -> None:
    """Puts weights and biases of a solution into the model."""
    check_finite(solution.weight, f"quantized {problem.where}")
    for module, (start, stop) in zip(problem.modules, problem.rows(), strict=True):
        # Parameters are replaced, never written into: a loaded tensor may be a view of its checkpoint's memory map.
        module.weight.data = solution.weight[start:stop].clone()
        if solution.bias is not None:
            module.bias.data = solution.bias[start:stop].clone()


def stack(weights: Sequence[Tensor]) -> Tensor:
    """Weights (out, in) of layers with one input, stacked along their outputs."""
    return torch.cat([weight.detach() for weight in weights])


def stack_bias(biases: Sequence[Tensor | None]) -> Tensor | None:
    """Stacked biases, or None if the layers have none; layers that share an input must agree in that."""
    given = [bias.detach() for bias in biases if bias is not None]
    if given and len(given) < len(biases):
        what = "only some of the layers that share an input have a bias."
        raise DataError(what, where="model", remedy="Give each a group of its own.")
    return torch.cat(given) if given else None
