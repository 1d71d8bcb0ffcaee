"""TIES: trim small changes, elect a sign per parameter, add up the changes that agree (Yadav et al. 2023, "TIES-Merging").

With tau_e the trimmed task vector of expert e (entries outside its `density` largest magnitudes set to 0), w_e its weight
and s_e its scaling:

    elect    gamma = sign(sum_e w_e tau_e), zeros as `zero_sign` says
    agree    a_e = tau_e where its sign is gamma, else 0
    sum      merged = base + sum_e s_e w_e a_e
    mean     merged = base + sum_e s_e w_e a_e / sum of w_e over the experts with a_e != 0

Signs are elected before scaling, so the merged model is linear in s, one factor or one per expert (then that of AdaMerging++).

The three published forms are options of this one, read off their code:

- FusionBench = AdaMerging (the default). Threshold per expert over its whole task vector of n entries: the
  (n - int(density n))-th smallest magnitude (`topk_values_mask`: kthvalue, kept if >=). So int(density n) + 1 entries stay,
  more if some tie with the threshold. A zero sum takes the sign of sum(gamma) over all parameters; if that is 0 as well,
  negative entries agree. Sum.
- The original repository: same trim and election, `aggregate: mean`, `scaling: 1.0`.
- mergekit: tensor by tensor, exactly int(density n) entries each, a zero sum counts as positive, weighted mean:
  `trim: tensor, zero_sign: positive, aggregate: mean, scaling: 1.0`, its `weight` as `weights` and its `lambda` as `scaling`.
  Which of several equal magnitudes stay is up to the sort there; here the first ones do.

Passes over the experts: two for the thresholds (exact radix selection), one for the signs, one for the merge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pmqbench.merging.base import MERGERS, Merger, MergeTensor, Scaling, per_expert
from pmqbench.merging.selection import kth_smallest, largest

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models

log = logging.getLogger(__name__)


@MERGERS.register("ties")
@dataclass(frozen=True, kw_only=True)
class Ties(Merger):
    """TIES-Merging; the defaults are FusionBench's (the module's docstring has the formulas)."""

    linear_in_scaling: ClassVar[bool] = True

    scaling: Scaling = 0.3
    density: Annotated[float, Field(gt=0, le=1, description="Share of a task vector's entries that trimming keeps.")] = 0.2
    trim: Annotated[
        Literal["global", "tensor"],
        Field(description="Trim by one threshold per expert (equal magnitudes kept), or each tensor to an exact count."),
    ] = "global"
    zero_sign: Annotated[
        Literal["majority", "positive"],
        Field(description="Sign of a parameter whose trimmed entries sum to zero: that of most parameters, or positive."),
    ] = "majority"
    aggregate: Annotated[
        Literal["sum", "mean"],
        Field(description="Add up the entries that agree with the elected sign, or take their mean."),
    ] = "sum"
    weights: Annotated[
        list[Annotated[float, Field(gt=0)]] | None,
        Field(description="Weight w_e of each expert in the election, sum and mean (mergekit's `weight`); null: all 1."),
    ] = None

    def start(self, models: Models) -> MergeTensor:
        """Finds the trimming thresholds and elects the signs, in passes over all experts."""
        scalings, weights = per_expert(self.scaling, len(models.labels)), self.weights or [1.0] * len(models.labels)
        trimmed = self._trimmer(models)
        signs = self._elect(models, trimmed, weights)

        def merge_tensor(name: str) -> torch.Tensor:
            total, mass = models.zeros(name), models.zeros(name)
            for entries, scaling, weight in zip(trimmed(name), scalings, weights, strict=True):
                agree = entries.sign() == signs[name]
                total.add_(entries * agree, alpha=scaling * weight)
                if self.aggregate == "mean":
                    mass[agree] += weight
            if self.aggregate == "mean":
                total /= mass.masked_fill_(mass == 0, 1)
            return total.add_(models.base(name))

        return merge_tensor

    def _trimmer(self, models: Models) -> Callable[[str], Iterator[torch.Tensor]]:
        """Function from a tensor's name to its trimmed task vectors, float32, expert by expert."""
        experts = range(len(models.labels))
        if self.trim == "tensor":
            return lambda name: (keep_largest(models.delta(e, name), self.density) for e in experts)
        n, thresholds = models.numel(), []
        rank = max(1, n - int(self.density * n))
        for e in experts:
            thresholds += kth_smallest(lambda e=e: ((0, models.delta(e, name).abs()) for name in models.names), [rank])
            log.info("%s keeps magnitudes from %g", models.labels[e], thresholds[-1])
        return lambda name: ((d := models.delta(e, name)) * (d.abs() >= thresholds[e]) for e in experts)

    def _elect(
        self, models: Models, trimmed: Callable[[str], Iterator[torch.Tensor]], weights: list[float]
    ) -> dict[str, torch.Tensor]:
        """Per tensor, the elected signs: 1 or -1, int8."""
        import torch

        signs = {}
        for name in models.names:
            total = models.zeros(name)
            for entries, weight in zip(trimmed(name), weights, strict=True):
                total.add_(entries, alpha=weight)
            signs[name] = total.sign_().to(torch.int8)
        majority = sum(int(sign.sum()) for sign in signs.values())  # torch sums int8 in int64
        zero = 1 if self.zero_sign == "positive" or majority > 0 else -1
        return {name: sign.masked_fill_(sign == 0, zero) for name, sign in signs.items()}


def keep_largest(tensor: torch.Tensor, density: float) -> torch.Tensor:
    """`tensor` with all but its int(density n) largest magnitudes set to 0; of equal ones at the border the first stay."""
    return tensor * largest(tensor.flatten(), int(density * tensor.numel())).view_as(tensor)
