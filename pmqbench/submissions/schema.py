"""What a submitted result holds: the file format of `leaderboard/entries/*.json`.

An entry is one row of a suite's leaderboard with all its seeds, and all that it takes to place it beside other rows without the
models: per-example outcomes of the model, the base and the experts, and fingerprints of test data and checkpoints.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, ValidationError

from pmqbench.errors import DataError, listed
from pmqbench.records import unpack_outcomes

Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[\w][\w .,:+()'/@-]{0,79}$")]


def finite(value: dict[str, Any]) -> dict[str, Any]:
    """The value itself; ValueError if NaN or Inf is in it at any depth."""
    json.dumps(value, allow_nan=False)
    return value


Description: TypeAlias = Annotated[dict[str, Any], Field(min_length=1), AfterValidator(finite)]
MOST = 2**53
"""Largest whole number anywhere: the largest that every JSON reader takes."""


class Part(BaseModel):
    """Of an entry: unknown keys, text for numbers, NaN and Inf are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Result(Part):
    """A run on one task.

    Attributes:
        value: the metric, 0..1 (rho: -1..1).
        standard_error: of `value`, from examples.
        loss: mean cross-entropy in nats, where the metric has one.
        correct: base64 of the packed bits of per-example correctness in the order of the test split; None for metrics without.
    """

    value: float = Field(ge=-1, le=1)
    standard_error: float = Field(ge=0, le=1)
    loss: float | None = None
    correct: str | None = None

    def outcomes(self, n: int) -> np.ndarray | None:
        """Per-example correctness, uint8 (n,) of 0 and 1; ValueError unless these are the packed bits of n examples."""
        return None if self.correct is None else unpack_outcomes(self.correct, n)


class Expense(Part):
    """What a model cost to make from the experts' checkpoints, as `costs.Costs`."""

    calibration_seconds: float = Field(default=0.0, ge=0, le=1e9)
    calibration_samples: int = Field(default=0, ge=0, le=MOST)
    validation_labels: bool = False


class Run(Part):
    """A model's results.

    Attributes:
        seed: calibration seed; None where none enters.
        size_bytes: what its weights take in storage, quantized layers packed.
        costs: what it took to make it from the experts' checkpoints.
        results: by task.
    """

    seed: int | None = Field(default=None, ge=0, le=MOST)
    size_bytes: int = Field(gt=0, le=MOST)
    costs: Expense = Expense()
    results: dict[str, Result] = Field(min_length=1)


class TaskData(Part):
    """What a task is scored by, and on: `sha256` is that of the file of its test split below results/data."""

    metric: Name
    n: int = Field(gt=0, le=MOST)
    sha256: Sha256


class Recipe(Part):
    """How the model is made, as the recipes of `pmqbench/recipes.py` describe themselves.

    Attributes:
        model: folder of its records below results/evaluations without the seed; None for a model that has no such folder.
        merge, quantizer, refinement: {"method", "options", ...}; None where there is none.
    """

    model: str | None = Field(default=None, pattern=r"^(merged/[\w.-]+|quantized(/[\w.-]+){2,3})$")
    merge: Description
    quantizer: Description | None = None
    refinement: Description | None = None

    def parts(self) -> tuple[Description, ...]:
        """What there is of merge, quantizer and refinement."""
        return tuple(part for part in (self.merge, self.quantizer, self.refinement) if part)


class Submitter(Part):
    """Who stands behind an entry, and where more about it is to be found."""

    by: Name
    link: HttpUrl | None = None
    date: Annotated[date, Field(strict=False)]


Provenance: TypeAlias = Annotated[dict[str, Any], AfterValidator(finite)]


class Entry(Part):
    """A submitted result.

    Attributes:
        format: of the file.
        suite: the suite's name.
        merge, quantizer, bits, group_size: what tells the row from others; no quantizer is a merge at full precision.
        chosen: options that were chosen by validation labels; "" for none.
        submitted: who and when.
        code_included: whether the code of all of its methods is part of this project, so that anyone can compute it again.
        recipe: how it is made.
        checkpoints: "base" and every task -> SHA-256 of the weights file of the base and of the task's expert.
        tasks: the suite's tasks in order.
        runs: the model, one run a seed.
        base: the pre-trained base.
        experts: task -> its expert, scored on it.
        provenance: what made it: code, versions and kernels, as a manifest tells them.
    """

    format: Literal[1]
    suite: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    merge: Name
    quantizer: Name | None = None
    bits: int = Field(ge=1, le=32)
    group_size: int | None = Field(default=None, ge=1, le=MOST)
    chosen: Annotated[str, Field(pattern=r"^[\w, ]*$")] = ""
    submitted: Submitter
    code_included: bool
    recipe: Recipe
    checkpoints: dict[str, Sha256]
    tasks: dict[Name, TaskData] = Field(min_length=1)
    runs: list[Run] = Field(min_length=1)
    base: Run
    experts: dict[str, Run]
    provenance: Provenance


def read_entry(path: str | Path) -> Entry:
    """Reads an entry; DataError names file and fields if it is no JSON or has another form. Contents: `checks.check_entry`."""
    try:
        return Entry.model_validate_json(Path(path).read_bytes())
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" if one["loc"] else one["msg"] for one in error.errors()]
        raise DataError(f"{listed(wrong)}.", where=str(path), remedy="docs/submitting.md has the format.") from None
