"""What a data source is: a frozen dataclass of options that yields a task's splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pmqbench.registry import Registry

if TYPE_CHECKING:
    from pmqbench.tasks.kinds.base import Task

COMPARED = "compared with the data set's own"
WORDS = "the labels are class names"
UNCHECKED = "not checked: the data set has none"
IMAGES, TEXTS = "images", "texts"


class DataSource(ABC):
    """Yields what a kind of task is made of.

    Attributes:
        yields: IMAGES or TEXTS.
    """

    yields: ClassVar[str]
    downloads: ClassVar[bool] = False
    """Whether the data come over the network."""
    allow_overlap = False
    """Whether splits may share examples."""

    def check(self, where: str) -> None:
        """Raises ConfigError, naming `where`, for options that contradict each other."""
        return

    def counts(self) -> dict[str, int]:
        """Split -> examples that a task keeps at most, where this is known before the data are there."""
        return {}

    def state(self) -> Any:
        """What else than the options decides the data (JSON): sizes and times of local files; None if nothing does."""
        return None

    def pinned(self) -> tuple[DataSource, str | None]:
        """The source as it is at this moment, and the commit that it is then; None for sources without commits."""
        return self, None

    @abstractmethod
    def split(self, task: Task, split: str) -> Any:
        """The examples of "train", "validation" or "test", in a fixed order.

        Returns:
            For images: uint8 (n, 3, h, w), RGB, decoded and resized but not normalised, and labels int64 (n,). For text: rows,
            each a mapping of columns to values.
        """

    def files_of(self, task: Task, split: str) -> Sequence[Path]:
        """Files or folders on this machine that hold the split; none for a source that has no files."""
        return ()

    @abstractmethod
    def label_check(self, task: Task, split: str) -> str:
        """How class names are known to stand in the order of the labels: COMPARED, WORDS, UNCHECKED or a sentence."""


DATA_SOURCES: Registry[Any] = Registry("data source", "pmqbench.tasks.sources")
