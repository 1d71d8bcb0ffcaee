"""Task definitions: class names, prompts, metric and data source of each task, one JSON file a task in `definitions/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.files import check_name, hash8, read_json
from pmqbench.options import build_options
from pmqbench.tasks.sources.base import DATA_SOURCES

FOLDER = Path(__file__).parent / "definitions"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes:
        name: as configs and paths have it.
        classnames: in label order.
        templates: prompts with one "{}" for the class name.
        metric: name of the metric, "accuracy".
        source: the data source and its options, {"name": ..., ...}.
    """

    name: str
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    metric: str
    source: dict[str, Any]

    @property
    def data_id(self) -> str:
        """Folder of the task's data below results/data: name and hash of the source."""
        return f"{self.name}-{hash8(self.source)}"

    def data_source(self) -> Any:
        """The data source, built from its options."""
        options = {key: value for key, value in self.source.items() if key != "name"}
        return build_options(DATA_SOURCES, self.source["name"], options, f"task {self.name}: source")


def known_tasks() -> list[str]:
    """Names of all defined tasks."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_task(name: str, where: str = "tasks") -> Task:
    """Reads a task's definition; ConfigError with a suggestion if there is none."""
    path = FOLDER / f"{check_name(name, where)}.json"
    if not path.is_file():
        raise ConfigError(f'unknown task "{name}".', where=where, remedy=did_you_mean(name, known_tasks()))
    data = read_json(path)
    return Task(name, tuple(data["classnames"]), tuple(data["templates"]), data["metric"], data["source"])
