"""Classification of texts, zero-shot: class names are put into sentences, and a text is given the class of the nearest one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.tasks.kinds.base import KINDS, RowTask, ZeroShotTask

if TYPE_CHECKING:
    from pmqbench.tasks.text import Example


@KINDS.register("text_classification")
@dataclass(frozen=True, kw_only=True)
class TextClassificationTask(RowTask, ZeroShotTask):
    """A task of texts (`input`) with a label each: a class's number, or its name."""

    hub_task = "zero-shot-classification"

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """The text, and the number of its class."""
        text, label = self.text_and_label(row, where)
        return text, str(self.class_of(label, where))

    def classes_in(self, path: Path) -> Iterable[str]:
        """Class names of the targets."""
        return (self.classnames[int(target)] for target in super().classes_in(path))

    def _made_by(self) -> Any:
        return [self.source, self.input, self.label, self.classnames]  # labels that are words become numbers by them
