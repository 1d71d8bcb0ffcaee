"""Task definitions: prompts, labels, metric and data source of each task, one JSON file a task in `definitions/`.

A config names tasks, or a list of them (`lists.json`), or defines a task of its own in the form of these files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.files import check_name, read_json
from pmqbench.tasks.kinds.base import Task, make_task

__all__ = ["Task", "known_tasks", "list_names", "load_task", "load_tasks", "task_of", "with_revisions"]

FOLDER = Path(__file__).parent / "definitions"
LISTS = Path(__file__).parent / "lists.json"
SPLITS = ("train", "validation", "test")


def known_tasks() -> list[str]:
    """Names of all defined tasks."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_tasks(wanted: str | Sequence[str | Mapping[str, Any]], where: str = "tasks") -> tuple[Task, ...]:
    """The tasks of a config: the name of a list, or names and own definitions.

    Raises:
        ConfigError: an unknown name (with a suggestion), or a name that stands twice.
    """
    items = list_names(wanted, where) if isinstance(wanted, str) else wanted
    tasks = tuple(
        load_task(item, f"{where}.{i}") if isinstance(item, str) else own_task(item, f"{where}.{i}")
        for i, item in enumerate(items)
    )
    names = [task.name for task in tasks]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f'task "{twice[0]}" stands twice.', where=where, remedy="Rename or remove one.")
    return tasks


def with_revisions(tasks: Sequence[Task], revisions: Mapping[str, str], where: str) -> tuple[Task, ...]:
    """The tasks with their data sets at the given revisions; ConfigError for a name that is no task, or no task of the hub."""
    known = {task.name: task for task in tasks}
    for name in revisions:
        if name not in known:
            what = f'"{name}" is no task of this suite.'
            raise ConfigError(what, where=where, remedy=did_you_mean(name, known))
        if not hasattr(known[name].data_source(), "revision"):
            what = f"the data of {name} have no revisions: source {known[name].source['name']}."
            raise ConfigError(what, where=where, remedy="Remove it.")
    pinned = {name: replace(known[name], source=known[name].source | {"revision": sha}) for name, sha in revisions.items()}
    return tuple(pinned.get(task.name, task) for task in tasks)


def list_names(name: str, where: str) -> list[str]:
    """Tasks of a named list, in order; an entry may name another list."""
    lists = read_json(LISTS)
    if name not in lists:
        raise ConfigError(f'unknown task list "{name}".', where=where, remedy=did_you_mean(name, lists))
    return [task for entry in lists[name] for task in (list_names(entry, where) if entry in lists else [entry])]


def load_task(name: str, where: str = "tasks") -> Task:
    """Reads a task's definition; ConfigError with a suggestion if there is none."""
    path = FOLDER / f"{check_name(name, where)}.json"
    if not path.is_file():
        raise ConfigError(f'unknown task "{name}".', where=where, remedy=did_you_mean(name, known_tasks()))
    return make_task(name, read_json(path), f"task {name}")


def own_task(item: Mapping[str, Any], where: str) -> Task:
    """A task that a config defines itself."""
    name = check_name(item["name"], f"{where}.name")
    return make_task(name, {key: value for key, value in item.items() if key != "name"}, where)


def task_of(description: Mapping[str, Any]) -> Task:
    """The task that `Task.describe` describes."""
    return make_task(description["name"], {k: v for k, v in description.items() if k != "name"}, f"task {description['name']}")
