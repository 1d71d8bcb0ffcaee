"""Round to nearest: every weight of the merged model to the nearest point of its grid; sees no data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pmqbench.quantization.base import QUANTIZERS, Quantizer

if TYPE_CHECKING:
    from pmqbench.quantization.problem import Problem, Solution


@QUANTIZERS.register("rtn")
@dataclass(frozen=True, kw_only=True)
class Rtn(Quantizer):
    """(W_merged, no metric), solver nearest."""

    solver: ClassVar[Literal["nearest"]] = "nearest"

    def solve(self, problem: Problem) -> Solution:
        """Rounds the merged weights to nearest."""
        from pmqbench.quantization.solvers import round_target

        return round_target(self, problem.weight, None, self.solver)
