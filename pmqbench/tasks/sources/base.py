"""What a data source is: a frozen dataclass of options that yields a task's splits as arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from pmqbench.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from pmqbench.tasks.definitions import Task
    from pmqbench.tasks.splits import ImageStream


class DataSource(ABC):
    """Yields images ready for the tower, decoded and resized but not normalised."""

    def state(self) -> Any:
        """What else than the options decides the data (JSON): sizes and times of local files; None if nothing does."""
        return None

    @abstractmethod
    def split(self, task: Task, split: str) -> tuple[np.ndarray | ImageStream, np.ndarray]:
        """Images uint8 (n, 3, h, w), RGB, and labels int64 (n,) of "train", "validation" or "test", in a fixed order."""


DATA_SOURCES: Registry[Any] = Registry("data source", "pmqbench.tasks.sources")
