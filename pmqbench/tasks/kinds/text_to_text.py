"""Text in, text out: a prompt, and the text that a model should answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from pmqbench.errors import DataError
from pmqbench.tasks.kinds.base import KINDS, RowTask

if TYPE_CHECKING:
    from pmqbench.tasks.text import Example


@KINDS.register("text_to_text")
@dataclass(frozen=True, kw_only=True)
class TextTask(RowTask):
    """A task of prompts (`input`) and answers.

    Attributes:
        target: what an answer should be: words in label order, or a format for the label ("{:.1f}", "{}").
        metric: "accuracy" (exact match) or "spearman" (rank correlation of the numbers in answer and target).
    """

    target: Annotated[
        tuple[str, ...] | str, Field(description='Words in label order, or a format for the label: "{:.1f}", or "{}" for text.')
    ]
    metric: Literal["accuracy", "spearman"] = "accuracy"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The words of `target`, if it is no format."""
        return self.target if isinstance(self.target, tuple) else None

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """Prompt and target."""
        prompt, label = self.text_and_label(row, where)
        if isinstance(self.target, str):
            return prompt, self._formatted(label, where)
        if not isinstance(label, int) or not 0 <= label < len(self.target):
            what = f"label {label!r} has no word; the task has {len(self.target)}."
            raise DataError(what, where=where, remedy="Labels are numbers from 0 in the order of `target`.")
        return prompt, self.target[label]

    def _formatted(self, label: Any, where: str) -> str:
        try:
            return self.target.format(label)
        except (TypeError, ValueError) as error:
            what = f'label {label!r} does not fit the format "{self.target}" ({error}).'
            raise DataError(what, where=where, remedy="Set `target` of the task to a format for its labels.") from error

    def _made_by(self) -> Any:
        return [self.source, self.input, self.label, self.target]
