"""Task definitions: prompts, labels, metric and data source of each task, one JSON file a task in `definitions/`."""

from __future__ import annotations

from pathlib import Path

from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.files import check_name, read_json
from pmqbench.tasks.kinds import ImageTask, Task, TextTask, make_task

__all__ = ["ImageTask", "Task", "TextTask", "known_tasks", "load_task"]

FOLDER = Path(__file__).parent / "definitions"
SPLITS = ("train", "validation", "test")


def known_tasks() -> list[str]:
    """Names of all defined tasks."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_task(name: str, where: str = "tasks") -> Task:
    """Reads a task's definition; ConfigError with a suggestion if there is none."""
    path = FOLDER / f"{check_name(name, where)}.json"
    if not path.is_file():
        raise ConfigError(f'unknown task "{name}".', where=where, remedy=did_you_mean(name, known_tasks()))
    return make_task(name, read_json(path))
