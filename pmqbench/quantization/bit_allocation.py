"""Bits by layer under a budget: what each width costs each layer, and the cheapest choice.

    cost_l(b) = kappa_l c_l(b)        c_l(b) = tr((Q_b - W*) H_a (Q_b - W*)^T) / tr(W_merged H W_merged^T)
    kappa_l   = D_l / c_l(p)          D_l = mean over tasks of E|f_l - f|^2 / E|f|^2

c is the solver's objective above its minimum, relative to the layer's output, at every width from the same moments. f is the
model's output on probe samples with no layer rounded, f_l with layer l alone at the probe width p. So one width is measured at
the output, and the objective says what the others would do. Squared distances, not changes of an error: these would have a
part linear in the rounding error, whose sign is chance.

Dong et al., arXiv 1911.03852 (HAWQ-V2) weigh with Hessian traces instead; the choice is a multiple-choice knapsack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from pmqbench.families.base import Block, BlockModel, Group
from pmqbench.quantization.base import UNROUNDED, Quantizer, Sampling
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.rtn import Rtn
from pmqbench.quantization.problem import Problem, Solution, place
from pmqbench.quantization.run import Run
from pmqbench.quantization.solvers import round_target


@dataclass(frozen=True)
class LayerCosts:
    """What the layers of one problem cost.

    Attributes:
        names: the layers, which share a width since they share their solve.
        size: their weights.
        relative: c by width.
        sensitivity: kappa.
    """

    names: tuple[str, ...]
    size: int
    relative: Mapping[int, float]
    sensitivity: float


def allocate(costs: Sequence[LayerCosts], budget: int) -> dict[str, int]:
    """The width of every layer that makes the sum of costs least with at most `budget` bits a weight on average.

    Exact: of all ways to choose for the layers so far, those are kept that no other beats in both bits and cost.

    Args:
        costs: of layers with the same widths, none of which lacks one within the budget.
        budget: bits a weight, over all layers.
    """
    left = sum(item.size for item in costs)
    limit = budget * left
    choices: list[tuple[int, float, tuple[int, ...]]] = [(0, 0.0, ())]
    for item in costs:
        left -= item.size
        least = min(item.relative) * left  # bits that the layers to come need
        longer = sorted(
            (bits + width * item.size, cost + item.sensitivity * relative, (*chosen, width))
            for bits, cost, chosen in choices
            for width, relative in item.relative.items()
            if bits + width * item.size + least <= limit
        )
        choices = []
        for choice in longer:
            if not choices or choice[1] < choices[-1][1]:
                choices.append(choice)
    _, _, best = choices[-1]
    return {name: width for item, width in zip(costs, best, strict=True) for name in item.names}


@dataclass(frozen=True, kw_only=True)
class Around(Quantizer):
    """A pass in which `inner` solves the layers."""

    parallel: ClassVar[bool] = True

    inner: Quantizer

    @property
    def uses_base(self) -> bool:
        """Whether `inner` does."""
        return self.inner.uses_base

    def refit_norm(self, run: Run, block: Block, group: Group) -> dict[str, Tensor]:
        """As `inner` does."""
        return self.inner.refit_norm(run, block, group)


@dataclass(frozen=True, kw_only=True)
class Survey(Around):
    """Rounds nothing for good: leaves every layer at `inner`'s unrounded target, and notes what each width would cost.

    Attributes:
        inner: solves the layers; rounds its target by its `solver` alone.
        widths: bits a weight, of which a layer gets one.
        probe_width: the width at which the output's change is measured.
        probe_samples: samples a task that it is measured on.
        costs: by problem in forward order, filled in as layers are solved.
    """

    inner: Rtn | Gptq | Epmq
    widths: tuple[int, ...]
    probe_width: int
    probe_samples: int
    costs: list[LayerCosts] = field(default_factory=list)
    _found: dict[tuple[str, ...], tuple[dict[int, float], Solution]] = field(default_factory=dict)

    def sampling(self) -> Sampling:
        """That of `inner`, a block's layers together: all are solved on the inputs they have before any is changed."""
        own = self.inner.sampling() or Sampling()
        return replace(own, sequential="block", probe_samples=self.probe_samples)

    def solve(self, problem: Problem) -> Solution:
        """The unrounded solution; notes c of every width, rounded from the one target in the one metric."""
        unrounded = replace(self.inner, bits=UNROUNDED).solve(problem)
        known = unrounded.target, unrounded.metric, self.inner.solver, unrounded.anchor
        solutions = {width: round_target(replace(self.inner, bits=width), *known) for width in self.widths}
        whole = float((problem.merged @ problem.moments.second * problem.merged).sum())
        relative = {width: _rounding_loss(problem, solution) / whole if whole else 0.0 for width, solution in solutions.items()}
        self._found[problem.names] = relative, solutions[self.probe_width]
        return unrounded

    def reconstruct(self, run: Run, block: Block, solved: list[tuple[Problem, Solution]]) -> None:
        """Measures the output's change with each problem's layers in turn at the probe width."""
        reference = _outputs(run, block)
        for problem, unrounded in solved:
            relative, rounded = self._found.pop(problem.names)
            place(problem, rounded)
            changes = run.world.all_of(map(_relative_change, _outputs(run, block), reference))
            change = sum(changes) / len(changes)
            place(problem, unrounded)
            at_probe = relative[self.probe_width]
            sensitivity = change / at_probe if at_probe > 0 else 0.0
            self.costs.append(LayerCosts(problem.names, prod(problem.merged.shape), relative, sensitivity))


@dataclass(frozen=True, kw_only=True)
class Allocated(Around):
    """`inner` with a width for every layer."""

    widths: Mapping[str, int]

    def sampling(self) -> Sampling:
        """As `inner`."""
        return self.inner.sampling() or Sampling()

    def solve(self, problem: Problem) -> Solution:
        """`inner`'s solution at the layers' width."""
        return replace(self.inner, bits=self.widths[problem.names[0]]).solve(problem)


def _rounding_loss(problem: Problem, solution: Solution) -> float:
    """tr(E H_a E^T) with E = Q - W*: how far J(Q) is above its minimum."""
    error = solution.weight - solution.target
    anchor = solution.anchor * (solution.metric.mu if solution.metric else 0.0)
    return float((error @ problem.moments.second * error).sum() + anchor * error.square().sum())


def _outputs(run: Run, block: Block) -> list[Tensor]:
    """The model's output by task of this process, for the probe samples whose states stand before `block`."""
    return [_finished(run.model, block, states[0]) for states in run.probe.states.values()]


def _finished(model: BlockModel, block: Block, state: Any) -> Tensor:
    for later in model.blocks[model.blocks.index(block) :]:
        state = model.run_block(later, state)
    return model.finish(state)


def _relative_change(output: Tensor, reference: Tensor) -> float:
    """|f_l - f|^2 / |f|^2."""
    return float(torch.dist(output, reference).square() / reference.square().sum())
