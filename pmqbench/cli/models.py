"""Models and tasks as the command line names them, as the parts of a suite's config that stand for them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pmqbench.config_files import located, read_file
from pmqbench.errors import ConfigError, PMQError, did_you_mean
from pmqbench.families.detect import family_of
from pmqbench.files import SAFE_NAME, read_json
from pmqbench.hub import ID, Repo, fetch
from pmqbench.tasks.definitions import LISTS, Task, list_names, load_tasks, with_revisions
from pmqbench.tasks.kinds.base import make_task

Options = dict[str, Any]


@dataclass(frozen=True)
class Named:
    """A model with the name that it goes by.

    Attributes:
        name: the part before "=", or the last part of the model's path or repository.
        given: whether the name was given.
        source: the model's source, as a suite's config has it.
    """

    name: str
    given: bool
    source: Options


def source(model: str, where: str) -> Options:
    """The source of a folder, a .safetensors file or a repository of the hub, owner/name or owner/name@revision."""
    path = Path(model).expanduser()
    if path.exists():
        return {"source": "local", "path": str(path.resolve())}
    repository, _, revision = model.partition("@")
    if "/" in repository and ID.fullmatch(repository) and not path.parent.is_dir():
        return {"source": "hub", "id": repository, "revision": revision or None}
    what = f'there is no folder "{model}", and it is no repository of the hub (owner/name).'
    raise ConfigError(what, where=where, remedy="Check the path.")


def named(model: str, where: str) -> Named:
    """A model that may be given a name: [NAME=]MODEL."""
    name, equals, place = model.partition("=")
    given = bool(equals) and SAFE_NAME.fullmatch(name) is not None and not Path(model).exists()
    place = place if given else model
    found = source(place, where)
    own = found["id"] if found["source"] == "hub" else os.path.abspath(Path(place).expanduser())  # a link by its own name
    own = own.rsplit("/", 1)[1].removesuffix(".safetensors")
    return Named(name if given else re.sub(r"[^A-Za-z0-9._-]+", "-", own).lstrip("._-") or "expert", given, found)


def family(model: Mapping[str, Any], where: str) -> str:
    """The family of a source's model, by its config; of a repository only the config is fetched."""
    if model["source"] == "local":
        place = Path(model["path"])
        folder = place if place.is_dir() else place.parent
        return family_of({path.name for path in folder.iterdir()}, folder.joinpath, f"{where} {place}")
    found = []

    def choose(names: Sequence[str], bring: Any) -> list[str]:
        found.append(family_of(names, bring, f"{where} {model['id']}"))
        return []

    fetch(Repo(model["id"], revision=model["revision"]), choose)
    return found[0]


def tasks(data: Path | None, wanted: Sequence[str] | None) -> list[Task]:
    """The tasks of a file in the form of a suite's config, or PMQ-Bench's own by name; none where neither is given.

    Args:
        data: the file; only its keys `tasks` and `data_revisions` are read.
        wanted: names of tasks or, without a file, of lists of tasks too; all of the file's by default.
    """
    if data is None:
        lists = read_json(LISTS)
        names = [name for word in wanted or () for name in (list_names(word, "--tasks") if word in lists else [word])]
        return list(load_tasks(names, "--tasks"))
    file = read_file(data)
    if "tasks" not in file.value:
        raise ConfigError("there is no key `tasks`.", where=str(data), remedy="Describe tasks as in docs/bring-your-own.md.")
    try:
        known = with_revisions(load_tasks(file.value["tasks"]), file.value.get("data_revisions", {}), "data_revisions")
    except PMQError as error:
        raise located(error, file.value, [file]) from None
    found = {task.name: _found_from_anywhere(task) for task in known}
    for name in wanted or ():
        if name not in found:
            raise ConfigError(f'there is no task "{name}" in {data}.', where="--tasks", remedy=did_you_mean(name, found))
    return [found[name] for name in wanted or found]


def _found_from_anywhere(task: Task) -> Task:
    """The task with the path of its data, if it has one, made absolute."""
    path = task.source.get("path")
    return task if path is None else replace(task, source=task.source | {"path": str(Path(path).expanduser().resolve())})


def paired(experts: Sequence[Named], known: Sequence[Task]) -> list[tuple[Task, Named]]:
    """Experts with their tasks: by name where all names are tasks, else in order; without tasks each stands for one itself."""
    names = [expert.name for expert in experts]
    if twice := [name for name in names if names.count(name) > 1]:
        remedy = "Name them apart: --experts first=PATH second=PATH"
        raise ConfigError(f'two experts are called "{twice[0]}".', where="--experts", remedy=remedy)
    if not known:
        return [(make_task(expert.name, {"kind": "no_data"}, "--experts"), expert) for expert in experts]
    tasks = {task.name: task for task in known}
    if all(name in tasks for name in names):
        return [(tasks[expert.name], expert) for expert in experts]
    strange = [expert.name for expert in experts if expert.given and expert.name not in tasks]
    if strange:
        raise ConfigError(f'"{strange[0]}" is no task.', where="--experts", remedy=did_you_mean(strange[0], tasks))
    if len(experts) != len(tasks):
        what = f"{len(experts)} experts and {len(tasks)} tasks ({', '.join(tasks)}) make no pairs."
        raise ConfigError(
            what, where="--experts", remedy="Name each expert's task: --experts TASK=MODEL, or choose by --tasks."
        )
    return list(zip(known, experts, strict=True))
