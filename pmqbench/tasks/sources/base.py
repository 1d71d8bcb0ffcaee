"""What a data source is: a frozen dataclass of options that yields a task's splits as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pmqbench.registry import Registry

if TYPE_CHECKING:
    import numpy as np


class DataSource(Protocol):
    """Yields images ready for the tower, decoded and resized but not normalised."""

    def split(self, task: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 (n, 3, h, w), RGB, and labels int64 (n,) of "train", "validation" or "test", in a fixed order."""


DATA_SOURCES: Registry[Any] = Registry("data source", "pmqbench.tasks.sources")
