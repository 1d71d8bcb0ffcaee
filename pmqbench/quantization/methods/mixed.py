"""Mixed bits at an average budget: every layer gets the width at which the whole model loses least.

    minimise sum_l kappa_l c_l(b_l)    subject to    sum_l n_l b_l <= bits * sum_l n_l,    b_l one of `widths`

c_l(b) is what `of` loses in its layer objective at b bits, kappa_l how much the model's output minds it (`bit_allocation.py`
has both formulas); layers that share their input share a width. A first pass leaves the layers unrounded and finds the costs,
an exact multiple-choice knapsack chooses, and a second pass quantizes at the chosen widths. After Dong et al., arXiv
1911.03852 (HAWQ-V2), whose sensitivity is the Hessian's trace. Scales do not count: a layer has as many at any width.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from pmqbench.errors import ConfigError
from pmqbench.quantization.base import QUANTIZERS, UNROUNDED, Quantizer
from pmqbench.quantization.on_top import OnTop

if TYPE_CHECKING:
    from pmqbench.distributed import World
    from pmqbench.families.base import BlockModel
    from pmqbench.quantization.problem import Expert

log = logging.getLogger(__name__)


@QUANTIZERS.register("mixed")
@dataclass(frozen=True, kw_only=True)
class Mixed(OnTop):
    """Layers of several widths with `bits` bits a weight on average, each solved as `of` does."""

    parallel: ClassVar[bool] = True

    widths: Annotated[
        tuple[Literal[2, 3, 4, 8], ...], Field(min_length=1, description="Bits a weight that a layer may get.")
    ] = (2, 3, 4, 8)
    probe_samples: Annotated[
        int, Field(ge=1, description="Samples a task on which the output's sensitivity to each layer is measured.")
    ] = 8

    def check(self, where: str) -> None:
        """Also refuses a budget below every width."""
        super().check(where)
        if min(self.widths) > self.bits:
            what = f"no layer can have {min(self.widths)} bits or more within {self.bits} on average."
            raise ConfigError(what, where=f"{where}.widths", remedy="Add a smaller width.")

    def prepare(
        self,
        model: BlockModel,
        calibration: Mapping[str, Sequence[Any]],
        experts: Mapping[str, Expert],
        base: Expert | None,
        world: World,
    ) -> Quantizer:
        """`of` with the width chosen for every layer; `of` itself where nothing is rounded."""
        import copy

        from pmqbench.quantization.bit_allocation import Allocated, Survey, allocate
        from pmqbench.quantization.calibrate import quantize_model

        inner, grid = self.inner(), {"group_size": self.group_size, "symmetric": self.symmetric}
        if self.bits == UNROUNDED:
            return inner
        probe_width = max(width for width in self.widths if width <= self.bits)
        survey = Survey(inner=inner, widths=self.widths, probe_width=probe_width, probe_samples=self.probe_samples, **grid)
        quantize_model(copy.deepcopy(model), survey, calibration, experts if self.uses_experts else {}, base, world)
        widths = allocate(survey.costs, self.bits)
        for item in survey.costs:
            chosen = widths[item.names[0]]
            losses = ", ".join(f"{width} bits {item.sensitivity * loss:.2g}" for width, loss in item.relative.items())
            log.info("%s: %d bits (relative change of the output: %s)", ", ".join(item.names), chosen, losses)
        return Allocated(inner=inner, widths=widths, bits=self.bits, **grid)
