"""WUDI-Merging: the matrix that interferes least with the experts' task vectors (Cheng et al. 2025, "Whoever started the
interference should end it", arXiv 2503.08099).

The rows of a linear layer's task vector tau_e, (out, in), lie in the span of the inputs it was tuned on and stand in for them:

    L(M)   = sum_e ||(M - tau_e) tau_e^T||_F^2 / ||tau_e||_F^2
    merged = base + M

With A_e = tau_e^T tau_e / ||tau_e||_F^2, S = sum_e A_e, P = sum_e tau_e A_e and the start M_0 = sum_e tau_e, half the gradient
is M S - P. Two ways to a small L:

    closed   M = (P + eps' M_0) (S + eps' I)^-1, the minimum of L(M) + eps' ||M - M_0||_F^2, eps' = eps * mean diagonal of S
    adam     the published way: `steps` steps of Adam from M_0, which stop long before the minimum

`eps` says how close `closed` stays to M_0; 0 is the minimum itself, of several the one nearest to M_0. All other tensors change
by the mean of the task vectors, as in FusionBench's `method/wudi`; the authors' code leaves them the base's.

P and S are sums over experts, so no more than one expert's tensor is held, in both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pmqbench.merging.base import MERGERS, Merger, MergeTensor

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models

# Eigenvalues of S below this share of the largest are rounding: they are squares of tau's singular values, of which float32
# models resolve 1e-6.
RANK_TOLERANCE = 1e-12


@MERGERS.register("wudi")
@dataclass(frozen=True, kw_only=True)
class Wudi(Merger):
    """WUDI-Merging of linear layers, the mean elsewhere (the module's docstring has the formulas)."""

    solver: Annotated[
        Literal["closed", "adam"], Field(description="Closed form with `eps`, or the published Adam run with `steps`.")
    ] = "closed"
    eps: Annotated[
        float, Field(ge=0, le=1000, description="With `closed`: pull to the task vectors' sum, in mean diagonals of S.")
    ] = 0.1
    steps: Annotated[int, Field(ge=1, description="With `adam`: number of steps.")] = 300
    learning_rate: Annotated[float, Field(gt=0, description="With `adam`: its learning rate.")] = 1e-5

    def start(self, models: Models) -> MergeTensor:
        """Needs no pass beforehand: a tensor's task vectors need that tensor alone."""

        def merge_tensor(name: str) -> torch.Tensor:
            if name in models.linear:
                start, products, gram = _sums(models, name)
                change = self._descend(start, products, gram) if self.solver == "adam" else self._solve(start, products, gram)
            else:
                change = models.zeros(name)
                for expert in range(len(models.labels)):
                    change.add_(models.delta(expert, name), alpha=1 / len(models.labels))
            return change.add_(models.base(name))

        return merge_tensor

    def _solve(self, start: torch.Tensor, products: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
        """(P + eps' M_0) (S + eps' I)^-1, written as a correction of M_0."""
        import torch

        trace = float(gram.trace())
        pull = self.eps * trace / len(gram)
        residual = products.sub_(start @ gram)
        if pull <= RANK_TOLERANCE * trace:  # the minimum itself, or task vectors of zeros: S may be singular
            return start.addmm_(residual, torch.linalg.pinv(gram, rtol=RANK_TOLERANCE, hermitian=True))
        gram.diagonal().add_(pull)
        return start.add_(torch.cholesky_solve(residual.T, torch.linalg.cholesky(gram)).T)

    def _descend(self, start: torch.Tensor, products: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
        """Adam from M_0 on L; float32 as published: a step is a product of the size of a layer's, and there are hundreds."""
        import torch

        matrix, products, gram = start.float(), products.float(), gram.float()
        adam = torch.optim.Adam([matrix], lr=self.learning_rate)
        for _ in range(self.steps):
            matrix.grad = torch.addmm(products, matrix, gram, beta=-2, alpha=2)
            adam.step()
        return matrix.double()


def _sums(models: Models, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """M_0 (out, in), P (out, in) and S (in, in), float64; task vectors of zeros add nothing."""
    import torch

    start, products = models.zeros(name), models.zeros(name)
    gram = torch.zeros(start.shape[1], start.shape[1], dtype=torch.float64)
    for expert in range(len(models.labels)):
        delta = models.delta(expert, name).double()
        power = float(delta.square().sum())
        if power > 0:
            start += delta
            gram.addmm_(delta.T, delta, alpha=1 / power)
            products.addmm_(delta @ delta.T, delta, alpha=1 / power)
    return start, products, gram
