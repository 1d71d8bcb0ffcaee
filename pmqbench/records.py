"""Result records: one JSON per (model, task, seed). Tables, plots, MLflow runs and the leaderboard are functions of these.

A record belongs to a model, not to a suite, so that suites share it; the suite's own names for recipes are added when
its records are collected (`reporting/collect.py`).
"""

from __future__ import annotations

import base64
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pmqbench.errors import DataError
from pmqbench.files import read_json, write_json

LIBRARIES = ("torch", "open_clip_torch", "transformers", "datasets", "safetensors", "numpy", "snakemake")
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
        provenance: what made it (`provenance()` and the recipe, versions of data and models).
    """

    model: str
    kind: str
    task: str
    seed: int | None
    metric: str
    value: float
    n: int
    standard_error: float
    loss: float | None
    correct: str | None
    size_bytes: int
    seconds: float
    peak_memory_mb: float
    provenance: dict[str, Any]

    def outcomes(self) -> np.ndarray:
        """Per-example correctness, uint8 (n,) of 0 and 1; DataError if the metric has none."""
        if self.correct is None:
            raise DataError(f"{self.metric} has no per-example outcomes.", where=f"{self.model}, {self.task}")
        return np.unpackbits(np.frombuffer(base64.b64decode(self.correct), dtype=np.uint8), count=self.n)


def pack_outcomes(correct: np.ndarray) -> str:
    """Boolean (n,) -> base64 of its packed bits."""
    return base64.b64encode(np.packbits(correct.astype(bool))).decode("ascii")


def write_record(path: str | Path, record: Record) -> None:
    """Writes a record whole or not at all."""
    write_json(path, asdict(record))


def read_record(path: str | Path) -> Record:
    """Reads a record; DataError names the file and what is missing or foreign in it."""
    value = read_json(path)
    expected = {field.name for field in fields(Record)}
    if not isinstance(value, Mapping) or set(value) != expected:
        odd = sorted(set(value) ^ expected) if isinstance(value, Mapping) else type(value).__name__
        what = f"not a result record of this version (keys: {odd})."
        raise DataError(what, where=str(path), remedy="Delete it and run again.")
    return Record(**value)


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


@cache
def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES}


@cache
def git_commit(folder: str) -> str | None:
    """Commit of the checkout in `folder`, with "-dirty" if it has changes; None outside git."""
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def provenance(recipe: Mapping[str, Any], inputs: Mapping[str, str], code: str, device: str, threads: int) -> dict[str, Any]:
    """What made an artefact.

    Args:
        recipe: the recipe's full description.
        inputs: checksums or revisions of what went in, by name.
        code: hash of the project code of this stage.
        device: "cpu" or "cuda: <name>".
        threads: CPU threads of the numerical libraries.
    """
    return {
        "recipe": dict(recipe),
        "inputs": dict(inputs),
        "code": code,
        "git_commit": git_commit(str(Path(__file__).parents[1])),
        "versions": library_versions(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": threads,
    }
