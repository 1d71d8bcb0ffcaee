"""What every refinement method is: a frozen dataclass of options that brings a quantized model closer to its experts.

A refinement takes a model on any grid, or at full precision, and gives one of the same format: codes, scales, zero points,
biases, norms. It sees calibration samples without labels, and the experts. No torch here: Snakemake imports it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from pmqbench.options import build_options
from pmqbench.registry import Registry

if TYPE_CHECKING:
    from pmqbench.refinement.engine import Refined, Start


@dataclass(frozen=True, kw_only=True)
class Refiner(ABC):
    """A refinement method with the options all methods have; `parallel` ones may run in several processes, as quantizers."""

    parallel: ClassVar[bool] = False

    calibration_samples: Annotated[int, Field(ge=2, description="Unlabelled samples a task, from its train split.")] = 256

    @abstractmethod
    def refine(self, start: Start) -> Refined:
        """The refined model."""


REFINERS: Registry[Any] = Registry("refinement", "pmqbench.refinement.methods")


def refiner_of(recipe: Mapping[str, Any]) -> Refiner:
    """The method that a recipe {"method": name, "options": {...}} describes."""
    return build_options(REFINERS, recipe["method"], recipe["options"], "refinement recipe")
