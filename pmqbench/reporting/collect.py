"""Gathers a suite's records, one JSON each, into one table: the only input of the tables, the plots and MLflow.

Records belong to models and are shared by suites, so the suite's own names of merges and quantizers come with the rows.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pmqbench.errors import DataError
from pmqbench.evaluation.guard import Named, check_records
from pmqbench.files import atomic_path, read_json
from pmqbench.integrity import AGAIN, MANIFEST, UnsealedError, read_manifest
from pmqbench.records import KINDS, Record, folder_of, read_record, tells_of

SEAL, UNSEALED = "pmqbench.file.sha256", "0" * 64
SEALED = re.compile(rb'"pmqbench\.file\.sha256": "([0-9a-f]{64})"')
"""Where a table's file has its checksum, twice: in what pandas writes as JSON."""
PARQUET = b"PAR1"
"""How every Parquet file ends that was not cut off."""

DTYPES = {
    "suite": "str",
    "kind": "str",
    "model": "str",
    "merge": "str",
    "quantizer": "str",
    "bits": "Int64",
    "group_size": "Int64",
    "seed": "Int64",
    "task": "str",
    "metric": "str",
    "value": "float64",
    "n": "Int64",
    "standard_error": "float64",
    "loss": "float64",
    "correct": "object",
    "seconds": "float64",
    "peak_memory_mb": "float64",
    "size_mb": "float64",
    "calibration_seconds": "float64",
    "calibration_samples": "Int64",
    "chosen": "str",
    "provenance": "str",
    "warnings": "str",
}

LAYER_KEYS = ("merge", "quantizer", "bits", "group_size", "seed")
CURVE_DTYPES = {name: DTYPES[name] for name in ("suite", *LAYER_KEYS)}
CURVE_DTYPES |= {"step": "Int64", "loss": "float64", "held_out": "float64", "seconds": "float64"}


def collect(suite: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One table row per record, in the order of `rows`.

    Args:
        suite: the suite's name.
        rows: {"path": record file, "merge": name or None, "quantizer": name or None, "bits": int, "group_size": int or None,
            "chosen": names of options}; merge is None for the base and the experts, quantizer is None for all that is not
            quantized, and "chosen" says what was chosen on validation data, "" for nothing.

    Returns:
        Columns as in DTYPES: `correct` holds packed bits (bytes) or None, `provenance` and `warnings` JSON text, `size_mb` 10^6
        bytes. A model with two names has rows under both.

    Raises:
        DataError: a foreign or outdated record, a row whose names do not fit the record's kind, or records that cannot all be
            right (`evaluation/guard.py`).
    """
    records = [read_record(row["path"]) for row in rows]
    refuse_outdated(records, [row["path"] for row in rows])
    table = [row_of(suite, record, row) for record, row in zip(records, rows, strict=True)]
    check_records(Named(record, row["merge"], row["bits"]) for record, row in zip(records, rows, strict=True))
    return pd.DataFrame(table, columns=list(DTYPES)).astype(DTYPES)


def refuse_outdated(records: Sequence[Record], paths: Sequence[str]) -> None:
    """Raises DataError for a record of other weights than its model has, where the model is there."""
    manifests: dict[Path, dict[str, Any]] = {}
    for record, path in zip(records, paths, strict=True):
        folder = folder_of(record.model)
        if folder not in manifests and (folder / MANIFEST).is_file():
            manifests[folder] = read_manifest(folder)
        if folder in manifests and not tells_of(record, manifests[folder]):
            what = f"it tells of other weights than {folder} has by now."
            raise DataError(what, where=path, remedy=f"Delete it, {AGAIN}")


def row_of(suite: str, record: Record, row: Mapping[str, Any]) -> dict[str, Any]:
    """A record and the suite's names for it -> one row with the columns DTYPES."""
    named = (row["merge"] is not None, row["quantizer"] is not None)
    if record.kind not in KINDS or named != (record.kind in ("merged", "quantized"), record.kind == "quantized"):
        raise DataError(
            f'kind "{record.kind}" does not go with merge {row["merge"]!r} and quantizer {row["quantizer"]!r}.',
            where=f"{row['path']}",
            remedy="Delete the record and run again.",
        )
    if record.costs.validation_labels != bool(row["chosen"]):
        raise DataError(
            f'validation labels were{"" if record.costs.validation_labels else " not"} used, but chosen is "{row["chosen"]}".',
            where=f"{row['path']}",
            remedy="Delete the record and the model and run again.",
        )
    names = {key: row[key] for key in ("merge", "quantizer", "bits", "group_size", "chosen")}
    same = ("kind", "model", "seed", "task", "metric", "value", "n", "standard_error", "loss", "seconds", "peak_memory_mb")
    return {
        "suite": suite,
        **names,
        **{key: getattr(record, key) for key in same},
        "correct": None if record.correct is None else base64.b64decode(record.correct),
        "size_mb": record.size_bytes / 1e6,
        "calibration_seconds": record.costs.calibration_seconds,
        "calibration_samples": record.costs.calibration_samples,
        "provenance": json.dumps(record.provenance, sort_keys=True, ensure_ascii=False),
        "warnings": json.dumps(record.warnings, ensure_ascii=False),
    }


def collect_layers(suite: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One table row per quantized layer.

    Args:
        suite: the suite's name.
        rows: {"path": layers.json, "merge", "quantizer", "bits", "group_size", "seed"}.

    Returns:
        Those names, then the layer records' own keys (pmqbench/quantization/layer_record.py, and "index" in forward order); a
        nested mapping becomes columns "outer.inner", a list JSON text.
    """
    table = []
    for row in rows:
        names = {"suite": suite} | {name: row[name] for name in LAYER_KEYS}
        # A layer record may have its own "bits"; the row's names win, and come first.
        table += [names | layer_columns(layer) | names for layer in read_json(row["path"])]
    return pd.DataFrame(table).astype({name: DTYPES[name] for name in ("suite", *LAYER_KEYS)})


def layer_columns(layer: Mapping[str, Any]) -> dict[str, Any]:
    """A layer's record as columns."""
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in flatten(layer).items()}


def collect_curves(suite: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One table row per point of a refined model's loss curve.

    Args:
        suite: the suite's name.
        rows: {"path": curve.json, "merge", "quantizer", "bits", "group_size", "seed"}; none in a suite without refinements.

    Returns:
        Columns as in CURVE_DTYPES, in the order of `rows` and steps: the loss on the samples that a refinement trains on and on
        those held out, NaN where one was not taken, and the seconds since it began. Step 0 is the model as it was.
    """
    table = []
    for row in rows:
        names = {"suite": suite} | {name: row[name] for name in LAYER_KEYS}
        table += [
            names | {name: point[name] for name in ("step", "loss", "held_out", "seconds")} for point in read_json(row["path"])
        ]
    return pd.DataFrame(table, columns=list(CURVE_DTYPES)).astype(CURVE_DTYPES)


def kept_point(curve: pd.DataFrame) -> pd.Series:
    """The point of a curve that the refinement kept: the first of those with the least held-out loss; it has one such loss."""
    return curve.loc[curve["held_out"].idxmin()]


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}, "c": [2, 3]} -> {"a.b": 1, "c": [2, 3]}."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def write_table(path: str | Path, frame: pd.DataFrame) -> None:
    """Writes a table as Parquet, whole or not at all; its metadata hold the checksum of the file with zeros in its place."""
    sealed = frame.copy(deep=False)
    sealed.attrs = {SEAL: UNSEALED}
    content = sealed.to_parquet(index=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(SEALED.sub(_sealed(hashlib.sha256(content).hexdigest()), content))


def read_table(path: str | Path) -> pd.DataFrame:
    """Reads what `write_table` wrote; DataError if the file is damaged, or of an older version.

    Nothing of a damaged file is parsed: Parquet's own checksums leave out the part that says what the columns are.
    """
    content = Path(path).read_bytes()
    unsealed, seals = SEALED.sub(_sealed(UNSEALED), content), set(SEALED.findall(content))
    whole = content.endswith(PARQUET)
    if whole and not seals:
        raise UnsealedError(path)
    if not whole or seals != {hashlib.sha256(unsealed).hexdigest().encode()}:
        raise DataError("its content is not what was written.", where=str(path), remedy="Delete it and run again.")
    frame = pd.read_parquet(io.BytesIO(content), engine="pyarrow")
    del frame.attrs[SEAL]
    return frame


def _sealed(digest: str) -> bytes:
    return f'"{SEAL}": "{digest}"'.encode()
