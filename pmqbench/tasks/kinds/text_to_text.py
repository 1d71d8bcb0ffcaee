"""Text in, text out: a prompt, and the text that a model should answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from pmqbench.errors import DataError
from pmqbench.tasks.kinds.base import KINDS, RowTask

if TYPE_CHECKING:
    from pmqbench.tasks.text import Example

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@KINDS.register("text_to_text")
@dataclass(frozen=True, kw_only=True)
class TextTask(RowTask):
    """A task of prompts (`input`) and answers.

    Attributes:
        target: what an answer should be: words in label order, or a format for the label ("{:.1f}", "{}").
        metric: "accuracy" (exact match) or "spearman" (rank correlation of the numbers in answer and target).
    """

    hub_task = "text2text-generation"

    target: Annotated[
        tuple[str, ...]
        | Annotated[
            str,
            Field(
                pattern=r"^[^{}]*\{(:[^{}]*)?\}[^{}]*$", description='A format with one place for the label: "{:.1f}", "{}".'
            ),
        ],
        Field(description='Words in label order, or a format for the label: "{:.1f}", or "{}" for text.'),
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
        return prompt, self.target[self.class_of(label, where)]

    def _formatted(self, label: Any, where: str) -> str:
        """The target by the format, which a number that a file holds as text fits as well."""
        values = [] if label is None or label != label else [label]  # NaN is not itself
        if isinstance(label, str) and NUMBER.fullmatch(label.strip()):
            values.append(float(label))
        for value in values:
            try:
                return self.target.format(value)
            except (TypeError, ValueError):
                continue
        what = f'label {label!r} does not fit the format "{self.target}".'
        raise DataError(what, where=where, remedy="Set `target` of the task to a format for its labels.")

    def _made_by(self) -> Any:
        return [self.source, self.input, self.label, self.target]
