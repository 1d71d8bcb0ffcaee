"""What a model source is: a frozen dataclass of options that brings the base or a task's expert into results/experts/<id>/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pmqbench.cards import card_head
from pmqbench.options import build_options
from pmqbench.registry import Registry

if TYPE_CHECKING:
    from pmqbench.recipes import Suite
    from pmqbench.tasks.definitions import Task


class Source(Protocol):
    """Where models come from.

    Attributes:
        trains: whether models are trained here, so that the base needs every task's data, and an expert needs its task's data
            and zero-shot head.
        code: module whose code makes the models, for the rule's code hash.
    """

    trains: ClassVar[bool]
    code: ClassVar[str]

    def check(self, names: Sequence[str], family: Any, where: str) -> None:
        """ConfigError before any work if a named model does not exist; names are tasks, or "" for the base."""

    def base_id(self, suite: Suite) -> str:
        """Folder name of the base: readable, with a hash of everything that affects it."""

    def expert_id(self, suite: Suite, task: Task) -> str:
        """Folder name of the task's expert."""

    def place(self, task: str) -> str | None:
        """What a task's expert is read from, links resolved: tasks with the same share an expert. None if it is made here."""

    def downloads(self, task: str) -> bool:
        """Whether a task's expert, or the base (""), comes over the network."""

    def model_config(self, family: Any) -> Mapping[str, Any] | None:
        """The base's model config if it can be known before any work, for checks of layer shapes; else None."""

    def fetch_base(
        self, folder: Path, family: Any, data: Mapping[str, Path], tasks: tuple[Task, ...]
    ) -> Mapping[str, str] | None:
        """Writes the base into `folder`, with the family's side files; `data` holds each task's training split if `trains`.

        Returns:
            What the manifest should know beyond the source's options, e.g. the commit that a branch stood for.
        """

    def fetch_expert(
        self, folder: Path, family: Any, task: Task, base: Path, data: Path | None, head: Path | None
    ) -> Mapping[str, str] | None:
        """Writes the task's expert into `folder`, where `family.admit` compares it with the base's folder, `base`, afterwards.

        Data and head are given if `trains`. Returns as `fetch_base`.
        """


def shared_experts(suite: Suite) -> list[str]:
    """A sentence for each expert that several tasks of a suite are given."""
    tasks: dict[str | None, list[str]] = {}
    for task in suite.tasks:
        tasks.setdefault(suite.experts.place(task.name), []).append(task.name)
    return [
        f"experts: tasks {', '.join(names)} have one expert, {place}: a merge counts it as often. Give each task its own."
        for place, names in tasks.items()
        if place is not None and len(names) > 1
    ]


def is_trained(source: Any) -> bool:
    """Whether a source trains its models from a seed, its option `seed`."""
    return source.trains and any(option.name == "seed" for option in fields(source))


CARD = "README.md"


def stated_license(card: Path | None) -> str | None:
    """The licence in the head of a model card, as the hub's cards have it; None if there is no card or it states none."""
    if card is None or not card.is_file():
        return None
    stated = card_head(card.read_text(encoding="utf-8")).get("license")
    return stated if isinstance(stated, str) else None


SOURCES: Registry[Any] = Registry("model source", "pmqbench.sources")


def source_of(options: Mapping[str, Any], where: str) -> Any:
    """The model source that a config's `base` or `experts` describes, checked."""
    own = {key: value for key, value in options.items() if key != "source"}
    return build_options(SOURCES, options["source"], own, where)
