"""What a kind of task is: what a definition of it holds, and how its examples become the files of its splits.

A kind is a dataclass in a file of its own, found by its name; a definition's keys are its fields, checked as any other config.
No torch and no data library here: configs are checked with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pmqbench.errors import ConfigError, DataError, listed
from pmqbench.files import hash8
from pmqbench.options import build_options, check_schema
from pmqbench.registry import Registry
from pmqbench.tasks.sources.base import DATA_SOURCES, TEXTS

DEFAULT_KIND = "image_classification"


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task.

    Attributes:
        suffix: of its splits' files.
        takes: what its source must yield, IMAGES or TEXTS.
        has_data: whether there are examples at all.
        hub_task: what the Hugging Face hub calls such a task, for model cards.
        name: as configs and paths have it.
        source: the data source and its options, {"name": ..., ...}.
        test_examples: size of the published test split, or None; another size is worth a warning.
    """

    suffix: ClassVar[str]
    takes: ClassVar[str]
    has_data: ClassVar[bool] = True
    hub_task: ClassVar[str]

    name: str
    source: Annotated[
        dict[str, Any],
        Field(
            description="Where the examples come from, {name, options...}; sources are the files of pmqbench/tasks/sources/.",
            json_schema_extra={"required": ["name"]},
        ),
    ]
    test_examples: int | None = None

    @cached_property
    def data_id(self) -> str:
        """Folder of the task's data below results/data: name and hash of what decides its splits."""
        return f"{self.name}-{hash8([KINDS.name_of(type(self)), self._made_by(), self.data_source().state()])}"

    def data_source(self, where: str = "") -> Any:
        """The data source, built from its options.

        Args:
            where: what messages call the task; "task <name>" by default.

        Raises:
            ConfigError: a source of something else than the task takes, or options that are wrong or contradict each other.
        """
        where = f"{where or f'task {self.name}'}.source"
        options = {key: value for key, value in self.source.items() if key != "name"}
        source = build_options(DATA_SOURCES, str(self.source["name"]), options, where)
        if source.yields != self.takes:
            fitting = [name for name in DATA_SOURCES.names() if DATA_SOURCES.get(name).yields == self.takes]
            what = (
                f'"{self.source["name"]}" is a source of {source.yields}; kind {KINDS.name_of(type(self))} takes {self.takes}.'
            )
            raise ConfigError(
                what, where=f"{where}.name", remedy=f"Use one of: {', '.join(fitting)}; or set `kind` of the task."
            )
        source.check(where)
        return source

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the labels in label order, to be compared with the data set's own; None where labels are no classes."""
        return None

    @property
    def prompts(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Class names and templates that the task's zero-shot head is made of; None for tasks without one."""
        return None

    def describe(self) -> dict[str, Any]:
        """The definition with its name, as `definitions.task_of` reads it."""
        fields = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"kind": KINDS.name_of(type(self)), **fields}

    @abstractmethod
    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """Checks what the data source yields for a split, writes it whole or not at all; returns the number of examples."""

    @abstractmethod
    def classes_in(self, path: Path) -> Iterable[str]:
        """The class of each example of a split that `write_split` wrote, where labels are classes."""

    def _made_by(self) -> Any:
        return self.source


@dataclass(frozen=True, kw_only=True)
class ZeroShotTask(Task):
    """A task whose answers are classes, told apart by a head that is made of their names.

    Attributes:
        classnames: in label order.
        templates: prompts with one "{}" for the class name.
        metric: "accuracy".
    """

    classnames: Annotated[
        tuple[str, ...], Field(min_length=2, description="Class names in label order.", json_schema_extra={"uniqueItems": True})
    ]
    templates: Annotated[
        tuple[
            Annotated[
                str,
                Field(
                    pattern=r"^[^{}]*\{\}[^{}]*$", description="A prompt with one {} for the class name, and no other brace."
                ),
            ],
            ...,
        ],
        Field(min_length=1, description="Prompts with one {} for the class name."),
    ]
    metric: Literal["accuracy"] = "accuracy"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.classnames

    @property
    def prompts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Class names and templates."""
        return self.classnames, self.templates


@dataclass(frozen=True, kw_only=True)
class RowTask(Task):
    """A task of texts: rows with the columns that a format names, and a label.

    Attributes:
        input: the text, with the names of columns in braces.
        label: column of the label.
    """

    suffix = ".jsonl"
    takes = TEXTS

    input: Annotated[
        str,
        Field(
            pattern=r"^([^{}]*\{[^{}!:.\[\]]+\})+[^{}]*$",
            description='The text, with the names of columns, one at least, in braces: "{sentence}".',
        ),
    ]
    label: Annotated[str, Field(description="Column of the label.")] = "label"

    @abstractmethod
    def example(self, row: Mapping[str, Any], where: str) -> tuple[str, str]:
        """Text and target of a row; DataError if a column is missing or the label is none of the task's."""

    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """Writes the text and target of every row."""
        from pmqbench.tasks.text import save_examples

        pairs = [self.example(row, f"{where}, row {index}") for index, row in enumerate(examples)]
        save_examples(path, pairs, where)
        return len(pairs)

    def classes_in(self, path: Path) -> Iterable[str]:
        """The targets."""
        from pmqbench.tasks.text import load_examples

        return (target for _, target in load_examples(path))

    def text_and_label(self, row: Mapping[str, Any], where: str) -> tuple[str, Any]:
        """Text and stored label of a row; DataError if a column is missing, or has no value where the text needs one."""
        used = [name for _, name, _, _ in Formatter().parse(self.input) if name is not None]
        lacking = [name for name in (*used, self.label) if name not in row]
        if lacking:
            what = f"there is no column {lacking[0]!r}; there are: {', '.join(row)}."
            raise DataError(what, where=where, remedy="Set `input` and `label` of the task to the data's columns.")
        nested = [name for name in used if isinstance(row[name], list | dict)]
        if nested:
            what = f"column {nested[0]!r} holds {row[nested[0]]!r:.60}, which is no text."
            raise DataError(what, where=where, remedy="Write the text itself into the column.")
        empty = [name for name in used if row[name] is None or row[name] != row[name]]  # NaN is not itself
        if empty:
            raise DataError(f"column {empty[0]!r} has no value.", where=where, remedy="Fill it, or remove the row.")
        return self.input.format(**row), row[self.label]

    def class_of(self, label: Any, where: str) -> int:
        """Number of the class that a stored label is: a number from 0 or, as text, one of `classes`.

        Digits that are text are a number only if no class is called by digits, so that a name is never taken for a number.

        Raises:
            DataError: it is neither.
        """
        word = label.strip() if isinstance(label, str) else None
        if word in self.classes:
            return self.classes.index(word)
        if word is not None and word.isdecimal() and not any(name.isdecimal() for name in self.classes):
            label = int(word)
        is_number = isinstance(label, int) and (len(self.classes) == 2 or not isinstance(label, bool))
        if is_number and 0 <= label < len(self.classes):
            return int(label)
        what = f"label {label!r} is no class; the task has {len(self.classes)}: {listed(self.classes)}."
        raise DataError(what, where=where, remedy="Labels are class names, or numbers from 0 in their order.")


KINDS: Registry[Task] = Registry("kind", "pmqbench.tasks.kinds")


def make_task(name: str, definition: Mapping[str, Any], where: str) -> Task:
    """The task of a definition; ConfigError names what is missing, unknown or of another type in it."""
    kind = str(definition.get("kind", DEFAULT_KIND))
    options = {key: value for key, value in definition.items() if key != "kind"}
    check_schema(options, _schema(kind, where), where)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    task = KINDS.get(kind)(name=name, **values)
    task.data_source(where)
    return task


def _schema(kind: str, where: str) -> dict[str, Any]:
    """Schema of a definition of this kind; its name stands elsewhere."""
    schema = KINDS.schema(kind, where)
    properties = {key: value for key, value in schema["properties"].items() if key != "name"}
    return {**schema, "properties": properties, "required": [key for key in schema["required"] if key != "name"]}


def check_kinds(tasks: Sequence[Task], wanted: type[Task], family: str) -> None:
    """Raises ConfigError for a task that models of the family cannot be asked."""
    for task in tasks:
        if task.has_data and not isinstance(task, wanted):
            what = f'task "{task.name}" is of kind {KINDS.name_of(type(task))}; family {family} takes {KINDS.name_of(wanted)}.'
            raise ConfigError(what, where="tasks", remedy="Use tasks of one kind, or another family.")
