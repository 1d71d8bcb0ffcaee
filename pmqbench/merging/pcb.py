"""PCB-Merging: entries weighed by their size within an expert and their agreement between experts (Du et al. 2024, "Parameter
competition balancing for model merging", arXiv 2410.02396).

With n experts, all of an expert's d parameters as one vector, and minmax(x) = (x - min x) / (max x - min x) over that vector:

    clip     c_e = delta_e with |delta_e| clipped to its `clip` and 1 - `clip` quantiles
    intra    i_e = exp(n minmax(|c_e|)^2)
    inter    j_e = tanh(delta_e sum_k delta_k)
    balance  b_e = minmax(max(i_e j_e, q_e)), q_e the 1 - `ratio` quantile of i_e j_e: all but the top `ratio` weigh 0
    merged   = base + sum_e s_e b_e c_e / sum_e b_e, the base where no expert weighs

As the authors' `pcb-merging.py` at its start values; quantiles are entries, [int(d q)] of the sorted ones from below and
[int(d (1 - clip) - 1)] from above. The script they publish for CLIP clips at 0.01 and sums minmax(|c_k|) with delta_k's sign in
`inter`. Its search for s_e in 0.8 .. 1.3 uses labels and is left out. Where all entries of an expert are equal, minmax is 0.

Passes over the experts: two for the clipping, six (three reads of each tensor twice) for q_e, two for the merge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from pmqbench.merging.base import MERGERS, Merger, MergeTensor, Scaling, per_expert
from pmqbench.merging.selection import kth_smallest

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models

# All experts' quantiles of the balance are found in the same passes, since each needs the sum over experts: counts of 11 bits
# take 16 KiB a quantile, where two passes with 16 bits would take half a MiB.
DIGITS = (11, 11, 10)


@MERGERS.register("pcb")
@dataclass(frozen=True, kw_only=True)
class Pcb(Merger):
    """Weighted mean of clipped task vectors (the module's docstring has the formulas)."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Scaling = 1.2
    ratio: Annotated[float, Field(gt=0, le=1, description="Share of an expert's entries with a weight.")] = 0.05
    clip: Annotated[
        float, Field(ge=0, lt=0.5, description="Share of an expert's magnitudes clipped at either end of their range.")
    ] = 0.0001

    def start(self, models: Models) -> MergeTensor:
        """Finds the quantiles, in passes over all experts."""
        experts = range(len(models.labels))
        scalings = per_expert(self.scaling, len(experts))
        clips = [self._clip(models, expert) for expert in experts]
        lows, highs = self._balance_range(models, clips)

        def merge_tensor(name: str) -> torch.Tensor:
            total, mass = models.zeros(name), models.zeros(name)
            for expert, delta, balance in _balances(models, name, clips):
                weight = _minmax(balance.double(), lows[expert], highs[expert])
                mass += weight
                clipped = delta.sign() * delta.abs().clamp(*clips[expert])
                total.addcmul_(weight, clipped.double(), value=scalings[expert])
            return total.div_(mass.clamp_(min=1e-12)).add_(models.base(name))

        return merge_tensor

    def _clip(self, models: Models, expert: int) -> tuple[float, float]:
        """Smallest and largest magnitude of an expert's clipped task vector."""
        numel = models.numel()
        places = int(numel * self.clip), max(0, int(numel * (1 - self.clip) - 1))

        def magnitudes() -> Iterator[tuple[int, torch.Tensor]]:
            for name in models.names:
                magnitude = models.delta(expert, name).abs()
                yield from ((side, magnitude) for side in range(2))

        low, high = kth_smallest(magnitudes, [place + 1 for place in places])
        return low, high

    def _balance_range(self, models: Models, clips: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
        """Each expert's quantile q_e and largest value of what `_balances` gives."""
        numel, highs = models.numel(), [-math.inf] * len(clips)
        rank = min(int(numel * (1 - self.ratio)), numel - 1) + 1

        def balances() -> Iterator[tuple[int, torch.Tensor]]:
            for name in models.names:
                for expert, _, balance in _balances(models, name, clips):
                    highs[expert] = max(highs[expert], float(balance.max()))
                    yield expert, balance

        return kth_smallest(balances, [rank] * len(clips), DIGITS), highs


def _balances(models: Models, name: str, clips: list[tuple[float, float]]) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Per expert of a tensor: its index, delta_e and i_e j_e / exp(n), float32; `minmax` takes no notice of the factor.

    Without it exp(n) would overflow for 89 experts.
    """
    total = models.zeros(name)
    for expert in range(len(clips)):
        total += models.delta(expert, name)
    for expert, (low, high) in enumerate(clips):
        delta = models.delta(expert, name)
        intra = _minmax(delta.abs().clamp_(low, high), low, high).square_().sub_(1).mul_(len(clips)).exp_()
        yield expert, delta, intra.mul_((delta * total).tanh_().float())


def _minmax(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """`values`, changed in place, on the scale from `low`, 0, to `high`, 1; below `low` 0."""
    return values.sub_(low).clamp_(min=0).div_(high - low) if high > low else values.zero_()
