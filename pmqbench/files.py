"""Files that appear whole or not at all: every writer of the project goes through here."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pmqbench.errors import ConfigError, DataError

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str, where: str) -> str:
    """Returns `name` if it may become part of a path, else raises ConfigError."""
    if not SAFE_NAME.fullmatch(name):
        raise ConfigError(
            f'"{name}" cannot be part of a path.',
            where=where,
            remedy="Use at most 100 letters, digits, '.', '_' and '-', beginning with a letter or digit.",
        )
    return name


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; renames it to `path` on success, removes it on failure.

    The temporary name is unique per call, so an orphan of a killed job that still writes cannot spoil its successor's file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copies a file's content whole or not at all."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON; NaN and Inf are refused, since no JSON reader has to take them."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file; DataError names the file, behind links, if it is none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of thousands of digits, thousands of brackets
        what, where = f"not valid JSON ({error}).", str(Path(path).resolve())
        raise DataError(
            what, where=where, remedy="It is damaged: replace it by a whole one, or delete what was made."
        ) from error


def sha256_file(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def with_whole_numbers(value: Any) -> Any:
    """`value` (JSON) with every whole number an int, at any depth: 1 and 1.0 are one number, and name one artefact."""
    if isinstance(value, Mapping):
        return {key: with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def hash8(value: Any) -> str:
    """First 8 hex digits of the SHA-256 of `value` as canonical JSON: names artefacts by what made them."""
    value = with_whole_numbers(value)
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]
