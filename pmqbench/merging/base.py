"""What a merging method is: a frozen dataclass of options that turns a view of base and experts into merged tensors.

A method stands in a file of its own, called like the method, and is asked for through `MERGERS`; `engine.merge` checks the
checkpoints, streams them and casts the result. No module here imports torch at the top: configs are validated without it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import Field

from pmqbench.errors import ConfigError
from pmqbench.options import build_options
from pmqbench.registry import Registry

if TYPE_CHECKING:
    import torch

    from pmqbench.merging.engine import Models
    from pmqbench.quantization.base import Quantizer

# Scaling coefficients above 2.5 are unheard of; the range is there to catch "30" meant as a percentage.
Coefficient: TypeAlias = Annotated[float, Field(ge=-10, le=10)]
Scaling: TypeAlias = Annotated[
    Coefficient | list[Coefficient],
    Field(description="Factor of what is added to the base: one number for all experts, or a list with one per expert."),
]
MergeTensor: TypeAlias = "Callable[[str], torch.Tensor]"


@dataclass(frozen=True, kw_only=True)
class Merger(ABC):
    """A merging method. By convention a list among its options holds one value per expert, in the experts' order.

    Attributes:
        calibrated: whether samples of the tasks are needed too: a CalibratedMerger.
        linear_in_scaling: whether merged = base + scaling * D with a D that does not depend on the option `scaling`, one number
            for all experts: then one merge gives the merges of all scalings.
        affine_in_scaling: whether it is a line through another point than the base: then two merges do.
    """

    calibrated: ClassVar[bool] = False
    linear_in_scaling: ClassVar[bool] = False
    affine_in_scaling: ClassVar[bool] = False

    @property
    def parallel(self) -> bool:
        """Whether several processes can share the work: they share samples, so only a merge that sees some."""
        return False

    @abstractmethod
    def start(self, models: Models) -> MergeTensor:
        """Makes the passes over the experts that the method needs before any tensor can be merged.

        Returns:
            Function from the name of a floating-point tensor to its merged value, float32 or float64, of the base's shape.
        """

    def check(self, experts: Sequence[str], where: str) -> None:
        """Raises ConfigError if the options do not fit these experts: a list of another length, NaN or Inf among the numbers.

        Args:
            experts: the experts' names, in order.
            where: key path of the options in the config.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, list) else [value]
            place = f"{where}.{field.name}"
            if isinstance(value, list) and len(value) != len(experts):
                raise ConfigError(
                    f"{len(experts)} values expected, one per expert ({', '.join(experts)}), but {len(value)} given.",
                    where=place,
                    remedy="Give one value per expert, in this order.",
                )
            if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
                raise ConfigError("NaN and Inf are no coefficients.", where=place, remedy="Give finite numbers.")


@dataclass(frozen=True, kw_only=True)
class CalibratedMerger(Merger):
    """A merge that sees unlabelled samples of every task.

    The start is a merge without data; from its blocks the layer loop (`quantization.calibrate.quantize_model`) then makes the
    merged model's, with a solver that does not round. A merge is one model: its samples are drawn by a seed of its own.
    """

    calibrated: ClassVar[bool] = True

    @property
    def parallel(self) -> bool:
        """Whether several processes can share the samples of the tasks: whether they can in the solver."""
        return self.solver().parallel

    calibration_samples: Annotated[int, Field(ge=1, description="Samples a task, from its train split; no labels.")] = 256
    seed: Annotated[int, Field(ge=0, description="Seed of the draw of samples.")] = 0

    @abstractmethod
    def first(self) -> Merger:
        """The merge without data that the layer loop starts from."""

    @abstractmethod
    def solver(self) -> Quantizer:
        """What the layer loop runs on it, at 16 bits."""

    def start(self, models: Models) -> MergeTensor:
        """The start's passes."""
        return self.first().start(models)


def per_expert(value: float | list[float], experts: int) -> list[float]:
    """One value per expert: a list as it is, a number repeated."""
    return value if isinstance(value, list) else [value] * experts


MERGERS: Registry[Any] = Registry("merging method", "pmqbench.merging")


def merger_of(recipe: Mapping[str, Any]) -> Merger:
    """The method that `MergeRecipe.describe` describes."""
    from pmqbench.merging.singular_values import SingularValueCalibration

    method = build_options(MERGERS, recipe["method"], recipe["options"], "merge recipe")
    calibration = recipe.get("calibrate_singular_values")
    return SingularValueCalibration(method=method, **calibration) if calibration else method
