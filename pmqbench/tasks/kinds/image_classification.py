"""Zero-shot classification of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pmqbench.tasks.kinds.base import KINDS, ZeroShotTask
from pmqbench.tasks.sources.base import IMAGES


@KINDS.register("image_classification")
@dataclass(frozen=True, kw_only=True)
class ImageTask(ZeroShotTask):
    """A task of images with a label each."""

    suffix = ".safetensors"
    takes = IMAGES
    hub_task = "zero-shot-image-classification"

    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """Writes images and labels."""
        from pmqbench.tasks.splits import save_split

        images, labels = examples
        save_split(path, images, labels, len(self.classnames), where)
        return len(labels)

    def classes_in(self, path: Path) -> Iterable[str]:
        """Class names of the labels."""
        from pmqbench.tasks.splits import read_labels

        return (self.classnames[label] for label in read_labels(path).tolist())

    def _made_by(self) -> Any:
        return [self.source, self.classnames]  # labels that are words, and folders, become numbers by them
