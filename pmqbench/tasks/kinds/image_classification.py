"""Zero-shot classification of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pmqbench.tasks.kinds.base import KINDS, ClassNames, Task, Templates


@KINDS.register("image_classification")
@dataclass(frozen=True, kw_only=True)
class ImageTask(Task):
    """A task of images with a label each.

    Attributes:
        classnames: in label order.
        templates: prompts with one "{}" for the class name.
        metric: "accuracy".
    """

    suffix = ".safetensors"

    classnames: ClassNames
    templates: Templates
    metric: Literal["accuracy"] = "accuracy"

    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """Writes images and labels."""
        from pmqbench.tasks.splits import save_split

        images, labels = examples
        save_split(path, images, labels, len(self.classnames), where)
        return len(labels)

    def _made_by(self) -> Any:
        return [self.source, self.classnames]  # labels that are words, and folders, become numbers by them
