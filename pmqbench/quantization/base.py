"""What every quantization method is: a frozen dataclass of options with three hooks that the layer loop calls.

A calibrated method is a pair (target, metric) and a rounding solver; its `solve` puts the three together from `targets.py`,
`metric.py` and `solvers.py`. The loop (`calibrate.py`) knows no method by name. No torch here: Snakemake imports it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from pmqbench.errors import ConfigError
from pmqbench.options import build_options
from pmqbench.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.distributed import World
    from pmqbench.families.base import Block, BlockModel, Group
    from pmqbench.quantization.problem import Expert, Problem, Solution
    from pmqbench.quantization.run import Run

UNROUNDED = 16  # bits at which a method stops after its target: the continuous relaxation


Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What the loop collects for a method.

    Attributes:
        sequential: which layers are already quantized when a layer's inputs are taken: all before its group ("group"), those of
            earlier blocks ("block"), or none.
        task_weight: how second moments of tasks are pooled, see `moments.Pool`.
        class_tokens: layers of which only the class token's output counts weigh the other tokens less.
        teacher: whose outputs the target aims at: each task's expert, the merged model at full precision, or nobody's.
        teacher_share: how much of the target's inputs is the teacher's own (0: the teacher's weights on this model's inputs).
        shift: keep E[(y - x) x^T] itself, y the teacher's inputs, beside what the teacher's weights make of it.
        inputs: whose inputs the second moments are of: this model's, each task's expert's own, or those that the expert's block
            makes of this model's states before it ("expert_block").
        off_diagonal: factor of a task's second moment off its diagonal.
        norms: whether refitted norms are in place before the inputs of their layers are taken, or only after these are solved.
        absolute: also collect mean |x|.
        precision: of the blocks' forward passes; moments and solves stay float32 and float64.
        probe_samples: samples a task kept apart, at full precision, for searches that run whole blocks.
        block_outputs: whose outputs of every block, on its own inputs, the method asks for: each task's expert's, the merged
            model's at full precision, or nobody's. For methods that `reconstruct`.
    """

    sequential: Literal["group", "block", "none"] = "group"
    task_weight: Literal["tokens", "uniform", "frobenius"] = "tokens"
    class_tokens: bool = False
    teacher: Literal["experts", "merged"] | None = None
    teacher_share: float = 0.0
    shift: bool = False
    inputs: Literal["student", "expert", "expert_block"] = "student"
    off_diagonal: float = 1.0
    norms: Literal["before", "after"] = "before"
    absolute: bool = False
    probe_samples: int = 0
    block_outputs: Literal["experts", "merged"] | None = None
    precision: Precision = "float32"


@dataclass(frozen=True, kw_only=True)
class Quantizer(ABC):
    """A quantization method with the options all methods have.

    A workflow asks for `calibrated` (needs calibration data and a seed), `uses_experts` (needs the experts' checkpoints),
    `uses_base` (needs the base's) and `parallel` (may run in several processes, each of which has some of the tasks: true only
    if hooks that look at the run's streams, experts or tasks bring together what all processes see).
    """

    calibrated: ClassVar[bool] = False
    uses_experts: ClassVar[bool] = False
    parallel: ClassVar[bool] = False

    bits: Annotated[Literal[2, 3, 4, 8, 16], Field(description="Bits a weight; 16 leaves the method's target unrounded.")] = 4
    group_size: Annotated[
        int | None, Field(ge=1, description="Inputs that share a scale within a row; null: one scale per output channel.")
    ] = None
    symmetric: Annotated[bool, Field(description="Signed codes without a zero point instead of a range with one.")] = False
    range_search: Annotated[
        Literal["minmax", "mse"],
        Field(description="Range of a grid: all weights (minmax), or the shrunk range of least error (mse)."),
    ] = "minmax"

    @property
    def uses_base(self) -> bool:
        """Whether the options ask for the weights of the base that the experts were tuned from."""
        return False

    def check(self, where: str) -> None:  # noqa: B027 - most methods' schemas say all
        """Raises ConfigError for options that contradict each other; `where` is the config key path of the recipe."""

    def prepare(
        self,
        model: BlockModel,
        calibration: Mapping[str, Sequence[Any]],
        experts: Mapping[str, Expert],
        base: Expert | None,
        world: World,
    ) -> Quantizer:
        """The method that quantizes `model`: itself, or one that looked at the model first; arguments of `quantize_model`."""
        return self

    def sampling(self) -> Sampling | None:
        """What the loop collects before `solve`; None for a method that sees no data."""
        return None

    def refit_norm(self, run: Run, block: Block, group: Group) -> dict[str, Tensor]:
        """New parameters of `group.norm` by canonical name; the loop puts them in place when `Sampling.norms` says."""
        return {}

    def rescale(self, run: Run, block: Block, problems: list[Problem]) -> None:  # noqa: B027 - a hook few methods need
        """May fold scales into the block, once inputs are collected and before any of `problems` is solved."""

    @abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """The quantized weights of a stack of layers that share their input."""

    def reconstruct(self, run: Run, block: Block, solved: list[tuple[Problem, Solution]]) -> None:  # noqa: B027
        """May change solutions and put them in place, once all layers solved together are, and before the streams move on.

        With `Sampling.sequential` "block" these are the block's, and the student's states stand before it. With
        `Sampling.block_outputs` those of `run.reference` stand behind it.
        """


@dataclass(frozen=True, kw_only=True)
class CalibratedQuantizer(Quantizer):
    """A method that sees calibration samples of every task."""

    calibrated: ClassVar[bool] = True

    calibration_samples: Annotated[int, Field(ge=1, description="Calibration samples a task, from its train split.")] = 256
    forward_precision: Annotated[
        Precision,
        Field(description="Of forward passes in calibration: tf32 (products on a GPU's tensor cores), or bfloat16 (autocast)."),
    ] = "float32"


@dataclass(frozen=True, kw_only=True)
class SequentialQuantizer(CalibratedQuantizer):
    """A calibrated method that takes a layer's inputs from the model as quantized so far."""

    sequential: Annotated[
        Literal["group", "block", "none"],
        Field(description="Layers already quantized when inputs are taken: all before the group, before the block, or none."),
    ] = "group"
    last_block_tokens: Annotated[
        Literal["all", "class"],
        Field(description="class: where only the class token reaches the output, other tokens weigh 0.01 in the moments."),
    ] = "all"


@dataclass(frozen=True, kw_only=True)
class SolverQuantizer(SequentialQuantizer):
    """A method that rounds a target in a metric: how the solver does it, and what may follow it.

    What follows keeps the file format and lowers J(Q) = tr((Q - W*) H_a (Q - W*)^T), W* the target and H_a the metric.
    """

    range_search: Annotated[
        Literal["minmax", "mse", "metric"],
        Field(
            description="Range of a grid: all weights (minmax), or the shrunk one of least error, plain (mse) or in the metric."
        ),
    ] = "minmax"
    act_order: Annotated[
        bool, Field(description="Round inputs in the order of falling second moment; group scales stay those of the target.")
    ] = False
    descent_passes: Annotated[
        int,
        Field(
            ge=0, description="Passes of coordinate descent over the solver's codes, at most; they end when they gain little."
        ),
    ] = 0
    refit_scales: Annotated[
        bool,
        Field(description="Refit scales to the codes, by least squares in the metric, before each pass of descent and last."),
    ] = False


QUANTIZERS: Registry[Any] = Registry("quantization method", "pmqbench.quantization.methods")


def quantizer_of(recipe: Mapping[str, Any]) -> Quantizer:
    """The method that `QuantRecipe.describe` describes."""
    return build_options(QUANTIZERS, recipe["method"], recipe["options"], "quantizer recipe")


def check_group_size(shapes: Mapping[str, tuple[int, int]], group_size: int | None, where: str) -> None:
    """Raises ConfigError naming the layers whose input width `group_size` does not divide.

    Args:
        shapes: (out, in) by layer name.
        group_size: inputs that share a scale; None (per output channel) fits always.
        where: config key path of the group size.
    """
    bad = [f"{name} ({width} inputs)" for name, (_, width) in shapes.items() if group_size is not None and width % group_size]
    if bad:
        shown = ", ".join(bad[:6]) + (f" and {len(bad) - 6} more" if len(bad) > 6 else "")
        raise ConfigError(
            f"group size {group_size} does not divide the inputs of {shown}.",
            where=where,
            remedy="Choose a divisor of every width, or null for one scale per output channel.",
        )
