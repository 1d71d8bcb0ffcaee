"""Classification of texts, zero-shot: class names are put into sentences, and a text is given the class of the nearest one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pmqbench.errors import DataError
from pmqbench.tasks.kinds.base import KINDS, RowTask, ZeroShotTask

if TYPE_CHECKING:
    from pmqbench.tasks.text import Example


@KINDS.register("text_classification")
@dataclass(frozen=True, kw_only=True)
class TextClassificationTask(RowTask, ZeroShotTask):
    """A task of texts (`input`) with a label each: a class's number, or its name."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.classnames

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """The text, and the number of its class; a label is looked up among the class names before it is read as a number."""
        text, label = self.text_and_label(row, where)
        word = str(label).strip()
        if word in self.classnames:
            return text, str(self.classnames.index(word))
        if isinstance(label, bool) or not word.isdecimal() or int(word) >= len(self.classnames):
            what = f"label {label!r} is no class; the task has {len(self.classnames)}."
            raise DataError(what, where=where, remedy="Labels are numbers from 0 in the order of `classnames`, or class names.")
        return text, str(int(word))

    def _made_by(self) -> Any:
        return [self.source, self.input, self.label, self.classnames]  # labels that are words become numbers by them
