"""LOT merging: task vectors whose outputs are, in least squares, those of every expert's (Sun et al. 2025, "Towards minimizing
feature drift in model merging: Layer-wise task vector fusion for adaptive knowledge integration", arXiv 2505.23859).

With X_t the inputs (tokens, in) that a layer has in expert t on samples of its task (of a norm: normalised, before its scale),
G_t = X_t^T X_t / tokens, and tau_t = W_t - W_0:

    linear layers   W = W_0 + (sum_t tau_t G_t) (sum_t G_t)^+
    norms' scales   g = (sum_t E[x_d^2] g_t,d) / sum_t E[x_d^2], channel by channel
    all others      the experts' mean

Directions of the inputs that no sample shows keep the base's weights. Of the pseudo-inverse, eigenvalues below `width * eps` of
the largest count as zero, eps float32's: the second moments are sums in float32. Tasks count alike, however many tokens they
have. Norms are those before a block's linear layers; the others, as BERT's, get the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pmqbench.merging.base import MERGERS, CalibratedMerger, Merger, MergeTensor
from pmqbench.quantization.base import CalibratedQuantizer, Sampling

if TYPE_CHECKING:
    import torch

    from pmqbench.families.base import Block, Group
    from pmqbench.merging.engine import Models
    from pmqbench.quantization.base import Quantizer
    from pmqbench.quantization.problem import Problem, Solution
    from pmqbench.quantization.run import Run


@MERGERS.register("lot")
@dataclass(frozen=True, kw_only=True)
class Lot(CalibratedMerger):
    """Regression of the task vectors' outputs on the experts' own inputs (the module's docstring has the formulas)."""

    def first(self) -> Merger:
        """The base's linear layers among the experts' mean."""
        return BaseLinear()

    def solver(self) -> Quantizer:
        """Least squares for the task vectors, and for the norms' scales."""
        return TaskVectorRegression(bits=16, calibration_samples=self.calibration_samples)


@dataclass(frozen=True, kw_only=True)
class BaseLinear(Merger):
    """The base's weights of linear layers; all other tensors are the experts' mean."""

    def start(self, models: Models) -> MergeTensor:
        """Starts the mean."""
        from pmqbench.merging.simple_average import SimpleAverage

        mean = SimpleAverage().start(models)
        return lambda name: models.base(name) if name in models.linear else mean(name)


@dataclass(frozen=True, kw_only=True)
class TaskVectorRegression(CalibratedQuantizer):
    """(W_0 + the merged task vector, no metric), not rounded."""

    parallel: ClassVar[bool] = True

    def sampling(self) -> Sampling:
        """Second moments of the inputs in the experts, which count alike."""
        return Sampling(
            sequential="block", task_weight="uniform", teacher="experts", inputs="expert", precision=self.forward_precision
        )

    def refit_norm(self, run: Run, block: Block, group: Group) -> dict[str, torch.Tensor]:
        """The experts' scales, weighed by the power of the channel's inputs; a channel without power keeps their mean."""
        if group.norm is None:
            return {}
        from pmqbench.quantization.corrections import norm_moments

        name = f"{group.norm}.weight"
        mean = run.model.get_parameter(name)
        moments = norm_moments(run, block, group)
        scale = (moments.scaled / moments.zz).to(mean.dtype)
        return {name: scale.where(moments.zz > 0, mean)}

    def solve(self, problem: Problem) -> Solution:
        """W_0 + (sum_t tau_t G_t) (sum_t G_t)^+, in float64."""
        import torch

        from pmqbench.quantization.solvers import round_target

        second = problem.moments.second
        tolerance = len(second) * torch.finfo(second.dtype).eps
        inverse = torch.linalg.pinv(second.double(), rtol=tolerance, hermitian=True)
        target = problem.weight + problem.moments.cross.double() @ inverse
        return round_target(self, target.to(problem.weight.dtype), None, "nearest")
