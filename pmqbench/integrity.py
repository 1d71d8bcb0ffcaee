"""Checksums: what is read is what was written, or the job ends before it works.

A *manifest* states the SHA-256 of every file beside it. What lies in no folder of its own is *sealed*: it states the SHA-256 of
its own content. Such are manifests, records and other JSON files, and tensors. Every job compares what it is given with these
(`verify`), and `pmqbench doctor` all of results/.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from pmqbench.errors import DataError
from pmqbench.files import read_json, sha256_file, write_json

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
CHOICE = "tuning.json"
SEAL = "sha256"
TENSORS = ".safetensors"
CLOCK_TICK_NS = 20_000_000
"""Times of files are those of the kernel's last tick: 10 ms at most on Linux."""
AGAIN = "or let `pmqbench doctor --remove` find and delete all that is damaged, and run again."


class UnsealedError(DataError):
    """A file without a checksum of its content: an older version of the project, or another program, wrote it."""

    def __init__(self, path: str | Path) -> None:
        what = "it states no checksum of its content; another program or an older version wrote it."
        super().__init__(what, where=str(path), remedy=remedy(Path(path)))


def digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of `value` as the JSON that it becomes, whatever its layout and the order of its keys."""
    as_read = json.loads(json.dumps(value, allow_nan=False))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_sealed(path: str | Path, value: Mapping[str, Any]) -> None:
    """Writes `value` as JSON, whole or not at all, with the checksum of its content."""
    write_json(path, {**value, SEAL: digest(value)})


def read_sealed(path: str | Path) -> dict[str, Any]:
    """What `write_sealed` wrote; DataError if the file is damaged, or was written by an older version."""
    path = Path(path)
    try:
        value = read_json(path)
    except DataError as error:
        raise DataError(error.what, where=str(path), remedy=remedy(path)) from error
    if not isinstance(value, dict) or SEAL not in value:
        raise UnsealedError(path)
    seal = value.pop(SEAL)
    try:
        whole = seal == digest(value)
    except ValueError:  # NaN, which is never written
        whole = False
    if not whole:
        raise DataError(f"its content is not what was written{_written(path)}.", where=str(path), remedy=remedy(path))
    return value


def save_sealed_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Writes tensors that numpy knows as a safetensors file, whole or not at all, with the checksum of names and values."""
    from pmqbench.checkpoints import save_checkpoint

    seal = _digest_of_arrays({name: tensor.numpy() for name, tensor in tensors.items()})
    save_checkpoint(path, tensors, {SEAL: seal})


def verify_tensors(path: Path) -> None:
    """Raises DataError if a file is not what `save_sealed_tensors` wrote."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            seal, names = (file.metadata() or {}).get(SEAL), list(file.keys())
            found = _digest_of_arrays({name: file.get_tensor(name) for name in names})
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: a type that numpy has not
        raise DataError(f"not a readable safetensors file ({error}).", where=str(path), remedy=remedy(path)) from error
    if seal is None:
        raise UnsealedError(path)
    if seal != found:
        raise damaged(path)


def _digest_of_arrays(arrays: Mapping[str, Any]) -> str:
    whole = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        whole.update(f"{name} {array.dtype} {array.shape}\0".encode() + array.tobytes())
    return whole.hexdigest()


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes `folder`/manifest.json: `content`, and the checksum of every file beside it that is not sealed itself."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    stated = {path.name: checksum(path) for path in files if path.name not in (MANIFEST, CHOICE)}
    write_sealed(folder / MANIFEST, {**content, "files": stated})


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of an artefact's folder."""
    return read_sealed(Path(folder) / MANIFEST)


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, in hex; one that was hashed, and by what the system says of it has not changed, is not read again."""
    status = Path(path).stat()
    if time.time_ns() - status.st_ctime_ns < CLOCK_TICK_NS:
        return sha256_file(path)  # a second change within the same tick of the file system's clock would not show
    # ctime, since mtime can be set back, and a copy program does.
    return _checksum(Path(path).resolve(), status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)


@cache
def _checksum(path: Path, *status: int) -> str:
    return sha256_file(path)


def verify(paths: Iterable[str | Path], threads: int = 1) -> None:
    """Compares files with the manifests beside them, and sealed tensors with their seals.

    Other files are passed over: sealed JSON and tables are checked where they are read.

    Args:
        paths: files of any folders.
        threads: files that are read side by side.

    Raises:
        DataError: a file is not what was written, or a manifest is damaged.
    """
    started = time.perf_counter()
    stated, sealed = find_stated(map(Path, paths))
    with ThreadPoolExecutor(threads) as pool:
        for (path, wanted), found in zip(stated.items(), pool.map(_checksum_if_there, stated), strict=True):
            if found != wanted:
                raise damaged(path, missing=found is None)
    for path in sealed:
        verify_tensors(path)
    if files := [*stated, *sealed]:
        size = sum(path.stat().st_size for path in files) / 1e6
        logger.info("checked %d files, %.1f MB, in %.2f s", len(files), size, time.perf_counter() - started)


def find_stated(paths: Iterable[Path]) -> tuple[dict[Path, str], list[Path]]:
    """Those of the files that a manifest states, with their checksums, and those that are sealed tensors."""
    folders, stated, sealed = {}, {}, []
    for path in paths:
        if path.parent not in folders:
            there = (path.parent / MANIFEST).is_file()
            folders[path.parent] = read_manifest(path.parent).get("files", {}) if there else None
        files = folders[path.parent]
        if files is None and path.suffix == TENSORS:
            sealed.append(path)
        elif files and path.name in files:
            stated[path] = files[path.name]
    return stated, sealed


def _checksum_if_there(path: Path) -> str | None:
    return checksum(path) if path.is_file() else None


def damaged(path: Path, missing: bool = False) -> DataError:
    """The error of a file that is not what its manifest states."""
    manifest = path.parent / MANIFEST
    if path.is_symlink():  # a file of the user's own, which nobody is told to delete
        happened = "is gone" if missing else "has changed"
        what = f"{path.readlink()}, which it links to, {happened} since it was taken in{_written(manifest)}."
        mend = f"Put the file back as it was, or delete the folder {path.parent}, and run again with the file as it is now."
        return DataError(what, where=str(path), remedy=mend)
    happened = "it is gone" if missing else "its content is not what was written"
    return DataError(f"{happened}{_written(manifest)}.", where=str(path), remedy=remedy(path))


def remedy(path: Path) -> str:
    """What to do about a damaged file: its artefact is made again."""
    whole = f"the folder {path.parent}" if (path.parent / MANIFEST).exists() and path.name != CHOICE else "it"
    return f"Delete {whole}, {AGAIN}"


def _written(path: Path) -> str:
    """' (2026-11-26 21:15:03)', the time of a file, if it is there."""
    if not path.is_file():
        return ""
    return time.strftime(" (%Y-%m-%d %H:%M:%S)", time.localtime(path.stat().st_mtime))
