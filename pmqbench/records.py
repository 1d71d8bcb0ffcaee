"""Result records: one JSON per (model, task, seed). Tables, plots, MLflow runs and the leaderboard are functions of these.

A record belongs to a model, not to a suite, so that suites share it; the suite's own names for recipes are added when
its records are collected (`reporting/collect.py`).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from math import hypot
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from pmqbench.costs import Costs
from pmqbench.errors import DataError, listed
from pmqbench.integrity import read_sealed, write_sealed

KINDS = ("base", "expert", "merged", "quantized")


@dataclass(frozen=True)
class Record:
    """One model's result on one task.

    Attributes:
        model: model id, the path below results/evaluations/ that holds this record.
        kind: one of KINDS.
        task: task name.
        seed: calibration seed; None for models that no seed enters.
        metric: "accuracy", "spearman", ...
        value: the metric, 0..1 (rho: -1..1).
        n: examples of the evaluation split.
        standard_error: of `value`, from examples.
        loss: mean cross-entropy (nats) over examples; None where the metric has none.
        correct: base64 of np.packbits over per-example correctness in split order (paired tests); None for metrics
            that have no per-example outcome.
        size_bytes: what the model's weights take in storage, quantized layers packed.
        seconds: wall-clock seconds of the evaluation of this task.
        peak_memory_mb: peak resident memory of the process so far.
        provenance: what made it, from `provenance.provenance`.
        costs: what the model cost to make from the experts' checkpoints, as in its manifest.
        warnings: sentences that reports repeat.
    """

    model: str
    kind: str
    task: str
    seed: int | None
    metric: str
    value: Annotated[float, Field(ge=-1, le=1)]
    n: Annotated[int, Field(ge=1)]
    standard_error: Annotated[float, Field(ge=0)]
    loss: float | None
    correct: str | None
    size_bytes: int
    seconds: float
    peak_memory_mb: float
    provenance: dict[str, Any]
    costs: Costs = field(default_factory=Costs)
    warnings: list[str] = field(default_factory=list)

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    def interval(self) -> tuple[float, float]:
        """95 % interval of `value` from test examples: Wilson's of a share of right answers, else the normal one."""
        if self.correct is None:
            return _normal(self.value, self.standard_error)
        from scipy.stats import binomtest

        found = binomtest(int(self.outcomes().sum()), self.n).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def outcomes(self) -> np.ndarray:
        """Per-example correctness, uint8 (n,) of 0 and 1; DataError if the metric has none."""
        if self.correct is None:
            raise DataError(f"{self.metric} has no per-example outcomes.", where=f"{self.model}, {self.task}")
        return unpack_outcomes(self.correct, self.n)


def folder_of(model: str, results: str | Path = "results") -> Path:
    """Where a record's model is, by its id: the base among the experts, all else where the id says."""
    kind, _, name = model.partition("/")
    return Path(results, "experts" if kind == "base" else kind, name)


def tells_of(record: Record, manifest: Mapping[str, Any]) -> bool:
    """Whether a record was made of the weights that a model's manifest states."""
    return record.provenance.get("weights") in manifest["files"].values()


def mean_of(records: Sequence[Record]) -> tuple[float, tuple[float, float]]:
    """Unweighted mean of the metrics of one model on several tasks, and its normal 95 % interval from their examples."""
    mean = fmean(record.value for record in records)
    return mean, _normal(mean, hypot(*(record.standard_error for record in records)) / len(records))


def _normal(value: float, standard_error: float) -> tuple[float, float]:
    half = NormalDist().inv_cdf(0.975) * standard_error
    return value - half, value + half


def pack_outcomes(correct: np.ndarray) -> str:
    """Boolean (n,) -> base64 of its packed bits."""
    return base64.b64encode(np.packbits(correct.astype(bool))).decode("ascii")


def unpack_outcomes(packed: str, n: int) -> np.ndarray:
    """What `pack_outcomes` packed, uint8 (n,) of 0 and 1; ValueError unless these are the bits of n examples."""
    try:
        numbers = np.frombuffer(base64.b64decode(packed, validate=True), np.uint8)
    except binascii.Error:
        raise ValueError("is no base64") from None
    bits = np.unpackbits(numbers)
    if len(numbers) != -(-n // 8) or bits[n:].any():
        raise ValueError(f"is not {n} bits")
    return bits[:n]


def write_record(path: str | Path, record: Record) -> None:
    """Writes a record whole or not at all, with the checksum of its content."""
    write_sealed(path, asdict(record))


@cache
def _form() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def read_record(path: str | Path) -> Record:
    """Reads a record; DataError names the file and what is missing, foreign, damaged or impossible in it."""
    value = read_sealed(path)
    expected = {entry.name for entry in fields(Record)}
    if set(value) != expected:
        what = f"not a result record of this version (keys: {sorted(set(value) ^ expected)})."
        raise DataError(what, where=str(path), remedy="Delete it and run again.")
    try:
        record = _form().validate_json(json.dumps(value))
        if record.correct is not None:
            unpack_outcomes(record.correct, record.n)
    except ValueError as error:
        wrong = (
            [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            if isinstance(error, ValidationError)
            else [f"correct {error}"]
        )
        raise DataError(f"{listed(wrong)}.", where=str(path), remedy="Delete it and run again.") from error
    return record
