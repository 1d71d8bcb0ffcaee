"""The state of an unfinished training on disk: enough to go on as if nothing had happened, whole or not there."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from pmqbench.files import atomic_path

log = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
"""Seconds between two writes; what is lost by a kill. Writing takes about a second a gigabyte."""


class StateFile:
    """Where a run keeps its state.

    Args:
        path: the file; None keeps none.
        identity: of the run; a state of another is not read.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path, self._identity = path, identity
        self._written = perf_counter()

    def load(self) -> dict[str, Any] | None:
        """What the last `save` of this run wrote; None if there is nothing of use, and the log says why."""
        if self._path is None or not self._path.exists():
            return None
        try:
            stored = torch.load(self._path, map_location="cpu", weights_only=True)
            identity, content, seal = stored["identity"], stored["content"], stored["sha256"]
        except Exception as error:  # whatever a damaged file makes of torch's reader
            log.info("%s: the state cannot be read (%s); starting from the beginning", self._path, error)
            return None
        if identity != self._identity:
            log.info("%s: the state is of another run; starting from the beginning", self._path)
            return None
        if seal != content_digest(content):
            log.warning("%s: the state is damaged; starting from the beginning.", self._path)
            return None
        return content

    def due(self) -> bool:
        """Whether it is time to save."""
        return self._path is not None and perf_counter() - self._written >= SAVE_SECONDS

    def save(self, content: dict[str, Any]) -> None:
        """Writes tensors and plain values."""
        with atomic_path(self._path) as temporary:
            torch.save({"identity": self._identity, "content": content, "sha256": content_digest(content)}, temporary)
        self._written = perf_counter()

    def remove(self) -> None:
        """Once the run is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def content_digest(content: Any) -> str:
    """SHA-256 of tensors and plain values, nested in dicts, lists and tuples: torch compares no checksums when it reads."""
    whole = hashlib.sha256()
    for part in _parts(content):
        whole.update(part)
    return whole.hexdigest()


def _parts(content: Any) -> Iterator[bytes | memoryview]:
    if isinstance(content, torch.Tensor):
        yield f"{content.dtype} {tuple(content.shape)}".encode()
        yield content.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    elif isinstance(content, dict):
        for key, value in content.items():
            yield repr(key).encode()
            yield from _parts(value)
    elif isinstance(content, list | tuple):
        yield str(len(content)).encode()
        for value in content:
            yield from _parts(value)
    else:
        yield repr(content).encode()
