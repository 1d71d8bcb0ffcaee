"""AutoRound towards the experts: the rounding of a block's layers learned together, so that its output becomes the experts'.

Cheng et al., arXiv 2309.05516: rounding offsets and range factors by SignSGD (`learned_rounding.py` has the formulas), on the
block's output error (`block_reconstruction.py`). Here the start are the codes of `of`, and by default the outputs aimed at are
those of each task's expert, on the expert's own states: block reconstruction merges as it quantizes. `teacher: merged` with
`of: rtn` is the published method, with 8 samples a step; 32 did better on validation splits wherever both were tried.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pmqbench.quantization.base import QUANTIZERS, Sampling
from pmqbench.quantization.on_top import OnTop

if TYPE_CHECKING:
    from pmqbench.families.base import Block
    from pmqbench.quantization.problem import Problem, Solution
    from pmqbench.quantization.run import Run


@QUANTIZERS.register("autoround")
@dataclass(frozen=True, kw_only=True)
class Autoround(OnTop):
    """The codes of `of`, then their rounding learned block by block."""

    reserved: ClassVar[tuple[str, ...]] = ("sequential",)

    calibration_samples: Annotated[
        int, Field(ge=2, description="Calibration samples a task, some of them held out to find the best step.")
    ] = 256

    teacher: Annotated[
        Literal["experts", "merged"],
        Field(description="Whose block outputs are aimed at: the experts', or the merged model's."),
    ] = "experts"
    steps: Annotated[int, Field(ge=1, description="Steps a block; the first moves by 1 / steps.")] = 200
    batch_size: Annotated[int, Field(ge=1, description="Samples a step, drawn evenly over tasks.")] = 32

    @property
    def uses_experts(self) -> bool:
        """Whether anything aims at the experts."""
        return self.teacher == "experts" or super().uses_experts

    def sampling(self) -> Sampling:
        """What `of` asks for, block by block, and the teacher's block outputs."""
        return replace(super().sampling(), sequential="block", block_outputs=self.teacher)

    def reconstruct(self, run: Run, block: Block, solved: list[tuple[Problem, Solution]]) -> None:
        """Learns the rounding of the block's layers."""
        from pmqbench.quantization.block_reconstruction import reconstruct_block

        reconstruct_block(run, block, solved, self.steps, self.batch_size)
