"""SVC, singular value calibration: on top of any merge, brings its directions to the experts' strength ("When Shared Knowledge
Hurts: Spectral Over-Accumulation in Model Merging", 2602.05536).

For the weight of a linear layer with Delta = merged - base and T task vectors tau_t:

    Delta = U diag(sigma) V
    s_r,t = <u_r Delta, u_r tau_t> / |u_r tau_t|^2        how strong the merge is along expert t's response to direction u_r
    gamma_r = T / sum_t max(floor, s_r,t)
    calibrated = base + U diag(gamma sigma) V

So directions that several experts share and a merge adds up are weakened, and directions that it left weak are strengthened, at
most 1 / floor times. Where every s_r,t is above the floor the result does not depend on the merge's scaling. All other tensors
stay as merged. Where an expert does not answer to u_r at all (up to rounding errors), s_r,t counts as below the floor.

FusionBench chooses the floor by merge: 0.1 for Task Arithmetic, TIES, DARE, averages and Iso-C, 0.2 for Iso-CTS, 1.0 for TSV-M
and WUDI. Of a merge whose singular values are all equal, as Iso-C's are, the vectors u_r are arbitrary within rounding errors:
the result is one of many that fit the formula.

One pass more over the experts for each tensor, one decomposition and T products a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmqbench.merging.base import Merger, MergeTensor
from pmqbench.merging.spectral import svd

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models


@dataclass(frozen=True, kw_only=True)
class SingularValueCalibration(Merger):
    """The merge of `method`, calibrated; both options are config keys of a merge (`pmqbench/schema.yaml`)."""

    method: Merger
    floor: float

    def check(self, experts: Sequence[str], where: str) -> None:
        """Checks the method's options; the floor's range is the config schema's."""
        self.method.check(experts, where)

    def start(self, models: Models) -> MergeTensor:
        """Makes the passes of the method."""
        merge_tensor = self.method.start(models)

        def calibrated(name: str) -> torch.Tensor:
            merged = merge_tensor(name)
            if name not in models.linear:
                return merged
            base = models.base(name)
            return base + self._calibrate(merged.double() - base, name, models)

        return calibrated

    def _calibrate(self, change: torch.Tensor, name: str, models: Models) -> torch.Tensor:
        import torch

        left, values, right = svd(change)
        strengths = torch.zeros_like(values)
        for expert in range(len(models.labels)):
            delta = models.delta(expert, name).double()
            strengths += self._strength(left.T @ delta, values[:, None] * right, float(delta.norm())).clamp_(min=self.floor)
        return (left * (values * len(models.labels) / strengths)) @ right

    @staticmethod
    def _strength(responses: torch.Tensor, merged: torch.Tensor, size: float) -> torch.Tensor:
        """s_r,t from the rows u_r tau_t and u_r Delta; 0 where the former are rounding errors of a matrix of norm `size`."""
        import torch

        squares = responses.square().sum(1)
        noise = torch.finfo(responses.dtype).eps * sum(responses.shape) * size
        answers = squares > noise**2
        return torch.where(answers, (responses * merged).sum(1) / squares.where(answers, 1), 0)
