"""Kinds of tasks: what a definition holds, and how its examples become the files of its splits.

A kind is a dataclass; a definition's keys are its fields, checked as every other config. No torch and no data library here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter

from pmqbench.errors import ConfigError, DataError, did_you_mean
from pmqbench.files import hash8
from pmqbench.options import build_options, check_schema
from pmqbench.tasks.sources.base import DATA_SOURCES

if TYPE_CHECKING:
    from pmqbench.tasks.text import Example


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task.

    Attributes:
        kind: what definitions call this class.
        suffix: of its splits' files.
        name: as configs and paths have it.
        source: the data source and its options, {"name": ..., ...}.
        test_examples: size of the published test split, or None; another size is worth a warning.
    """

    kind: ClassVar[str]
    suffix: ClassVar[str]

    name: str
    source: Annotated[
        dict[str, Any],
        Field(
            description="Where the examples come from, {name, options...}; sources are the files of pmqbench/tasks/sources/.",
            json_schema_extra={"required": ["name"]},
        ),
    ]
    test_examples: int | None = None

    @property
    def data_id(self) -> str:
        """Folder of the task's data below results/data: name and hash of what decides its splits."""
        state = self.data_source().state()
        made_by = self._made_by()
        return f"{self.name}-{hash8(made_by if state is None else [made_by, state])}"

    def data_source(self) -> Any:
        """The data source, built from its options."""
        options = {key: value for key, value in self.source.items() if key != "name"}
        return build_options(DATA_SOURCES, self.source["name"], options, f"task {self.name}: source")

    @property
    def prompts(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Class names and templates that the task's zero-shot head is made of; None for tasks without one."""
        return None

    def describe(self) -> dict[str, Any]:
        """The definition with its name, as `definitions.task_of` reads it."""
        fields = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"kind": self.kind, **fields}

    @abstractmethod
    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """Checks what the data source yields for a split, writes it whole or not at all; returns the number of examples."""

    def _made_by(self) -> Any:
        return self.source


@dataclass(frozen=True, kw_only=True)
class ImageTask(Task):
    """Zero-shot classification of images.

    Attributes:
        classnames: in label order.
        templates: prompts with one "{}" for the class name.
        metric: "accuracy".
    """

    kind = "image_classification"
    suffix = ".safetensors"

    classnames: Annotated[
        tuple[str, ...], Field(min_length=2, description="Class names in label order.", json_schema_extra={"uniqueItems": True})
    ]
    templates: Annotated[
        tuple[Annotated[str, Field(pattern=r"\{\}", description="A prompt with one {} for the class name.")], ...],
        Field(min_length=1, description="Prompts with one {} for the class name."),
    ]
    metric: Literal["accuracy"] = "accuracy"

    @property
    def prompts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Class names and templates."""
        return self.classnames, self.templates

    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """See Task: images and labels."""
        from pmqbench.tasks.splits import save_split

        images, labels = examples
        save_split(path, images, labels, len(self.classnames), where)
        return len(labels)

    def _made_by(self) -> Any:
        return [self.source, self.classnames]  # labels that are words, and folders, become numbers by them


@dataclass(frozen=True, kw_only=True)
class TextTask(Task):
    """Text in, text out.

    Attributes:
        input: the prompt, with the names of columns in braces.
        label: column of the label.
        target: what an answer should be: words in label order, or a format for the label ("{:.1f}", "{}").
        metric: "accuracy" (exact match) or "spearman" (rank correlation of the numbers in answer and target).
    """

    kind = "text_to_text"
    suffix = ".jsonl"

    input: Annotated[str, Field(min_length=1, description='The prompt, with the names of columns in braces: "{sentence}".')]
    label: Annotated[str, Field(description="Column of the label.")] = "label"
    target: Annotated[
        tuple[str, ...] | str, Field(description='Words in label order, or a format for the label: "{:.1f}", or "{}" for text.')
    ]
    metric: Literal["accuracy", "spearman"] = "accuracy"

    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """See Task: rows with the columns that the prompt names, and the label's."""
        from pmqbench.tasks.text import save_examples

        pairs = [self.example(row, f"{where}, row {index}") for index, row in enumerate(examples)]
        save_examples(path, pairs, where)
        return len(pairs)

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """Prompt and target of a row.

        Raises:
            DataError: a column is missing, or the label has no word.
        """
        try:
            prompt, label = self.input.format(**row), row[self.label]
        except KeyError as error:
            what = f"there is no column {error}; there are: {', '.join(row)}."
            raise DataError(what, where=where, remedy="Set `input` and `label` of the task to the data's columns.") from error
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


KINDS: dict[str, type[Task]] = {kind.kind: kind for kind in (ImageTask, TextTask)}


def make_task(name: str, definition: Mapping[str, Any], where: str) -> Task:
    """The task of a definition; ConfigError names what is missing, unknown or of another type in it."""
    kind = KINDS.get(definition.get("kind", ImageTask.kind))
    if kind is None:
        what = f'unknown kind "{definition["kind"]}".'
        raise ConfigError(what, where=where, remedy=did_you_mean(str(definition["kind"]), KINDS))
    options = {key: value for key, value in definition.items() if key != "kind"}
    check_schema(options, _schema(kind), where)
    task = kind(name=name, **{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})
    task.data_source()
    return task


@cache
def _schema(kind: type[Task]) -> dict[str, Any]:
    """Schema of a definition of this kind; its name stands elsewhere."""
    schema = TypeAdapter(kind).json_schema()
    properties = {key: value for key, value in schema["properties"].items() if key != "name"}
    required = [key for key in schema["required"] if key != "name"]
    return {**schema, "properties": properties, "required": required, "additionalProperties": False}


def check_kinds(tasks: Sequence[Task], wanted: type[Task], family: str) -> None:
    """Raises ConfigError for a task that models of the family cannot be asked."""
    for task in tasks:
        if not isinstance(task, wanted):
            what = f'task "{task.name}" is of kind {task.kind}; family {family} takes {wanted.kind}.'
            raise ConfigError(what, where="tasks", remedy="Use tasks of one kind, or another family.")
