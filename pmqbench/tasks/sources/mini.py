"""The mini suite's images, drawn on the spot (`tasks/mini/`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pmqbench.tasks.sources.base import DATA_SOURCES, IMAGES, DataSource

if TYPE_CHECKING:
    import numpy as np

    from pmqbench.tasks.definitions import Task


COUNTS = {"train": 4000, "validation": 600, "test": 400}
"""Images per split of a drawn domain."""


@DATA_SOURCES.register("mini")
@dataclass(frozen=True, kw_only=True)
class MiniImages(DataSource):
    """Procedural images from a seed."""

    yields = IMAGES
    seed: Annotated[int, Field(ge=0, description="Seed of the generator.")] = 0

    def counts(self) -> dict[str, int]:
        """Of all splits."""
        return dict(COUNTS)

    def split(self, task: Task, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The split, drawn."""
        from pmqbench.tasks.mini import generate

        return generate(task.name, split, self.seed)

    def label_check(self, task: Task, split: str) -> str:
        """The drawings stand in the order of the definitions' class names."""
        return "drawn in the order of the class names"
