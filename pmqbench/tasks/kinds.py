"""Kinds of tasks: what a definition holds, and how its examples become the files of its splits.

A kind is a dataclass; a definition's keys are its fields, checked as every other config. No torch and no data library here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from string import Formatter
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
        """The data source, built from its options; ConfigError for options that are wrong or contradict each other."""
        where = f"task {self.name}: source"
        options = {key: value for key, value in self.source.items() if key != "name"}
        source = build_options(DATA_SOURCES, self.source["name"], options, where)
        source.check(where)
        return source

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the labels in their order, or None where labels are no classes."""
        return None

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
    def label_names(self) -> tuple[str, ...]:
        """The class names."""
        return self.classnames

    @property
    def prompts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Class names and templates."""
        return self.classnames, self.templates

    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """Images and labels as a safetensors file."""
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

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The target words, where the target is no format."""
        return self.target if isinstance(self.target, tuple) else None

    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """Prompts and targets, made of the columns that the prompt names and the label's, as JSON lines."""
        from pmqbench.tasks.text import save_examples

        pairs = [self.example(row, f"{where}, row {index}") for index, row in enumerate(examples)]
        save_examples(path, pairs, where)
        return len(pairs)

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """Prompt and target of a row.

        Raises:
            DataError: a column or value is missing, or the label has no word.
        """
        used = [self.label, *(name for _, name, _, _ in Formatter().parse(self.input) if name is not None)]
        lacking = [name for name in used if name not in row]
        if lacking:
            what = f"there is no column {lacking[0]!r}; there are: {', '.join(row)}."
            raise DataError(what, where=where, remedy="Set `input` and `label` of the task to the data's columns.")
        empty = [name for name in used if row[name] is None or row[name] != row[name]]  # NaN is not itself
        if empty:
            raise DataError(f"column {empty[0]!r} has no value.", where=where, remedy="Fill it, or remove the row.")
        return self.input.format(**row), self._target(row[self.label], where)

    def _target(self, label: Any, where: str) -> str:
        """The target of a label: by the format, or the word that the label is or is the number of."""
        if isinstance(self.target, str):
            return self._formatted(label, where)
        if isinstance(label, int) and 0 <= label < len(self.target):
            return self.target[label]
        if label in self.target:
            return label
        what = f"label {label!r} has no word; the task has {len(self.target)}: {', '.join(self.target)}."
        raise DataError(what, where=where, remedy="Labels are words of `target`, or numbers from 0 in their order.")

    def _formatted(self, label: Any, where: str) -> str:
        try:
            return self.target.format(label)
        except (TypeError, ValueError):
            pass
        try:
            return self.target.format(float(label))  # a number that a file holds as text
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
