"""RegMean++: RegMean whose blocks read what the merged blocks before them give (Nguyen et al. 2025, "RegMean++: Enhancing
effectiveness and generalization of regression mean for model merging", arXiv 2508.03121).

As RegMean, but block by block: block l of every expert runs on the states that the merged model's blocks 0 .. l - 1 make of the
expert's samples, so that X_t are the inputs of the expert's own layers inside its block, behind its own norms. As the authors'
code (nthehai01/RegMean-plusplus, `method/regmean_plusplus`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmqbench.merging.base import MERGERS
from pmqbench.merging.regmean import RegMean

if TYPE_CHECKING:
    from pmqbench.quantization.base import Quantizer


@MERGERS.register("regmean_pp")
@dataclass(frozen=True, kw_only=True)
class RegMeanPlusPlus(RegMean):
    """Regression of the experts' outputs on the inputs that their blocks have behind the merged ones."""

    def solver(self) -> Quantizer:
        """Least squares inside the experts' blocks, on the merged model's states."""
        from dataclasses import replace

        return replace(super().solver(), inputs="expert_block")
