"""What every refinement method is: a frozen dataclass of options. No torch here: Snakemake imports it."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from pmqbench.options import build_options
from pmqbench.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Refiner(ABC):  # noqa: B024 - what a method does with a model is its own
    """A method that takes a quantized model and gives one of the same format."""

    calibration_samples: Annotated[int, Field(ge=1, description="Unlabelled samples a task, from its train split.")] = 256


REFINERS: Registry[Any] = Registry("refinement method", "pmqbench.refinement.methods")


def refiner_of(recipe: Mapping[str, Any]) -> Refiner:
    """The method that `RefineRecipe.describe` describes."""
    return build_options(REFINERS, recipe["method"], recipe["options"], "refinement recipe")
