"""A task of which nothing is known but its expert: what needs no data can be done with it, all else says what it lacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmqbench.errors import ConfigError
from pmqbench.tasks.kinds.base import KINDS, Task


@KINDS.register("no_data")
@dataclass(frozen=True, kw_only=True)
class TaskWithoutData(Task):
    """Names an expert; merges and quantizers that see no samples ask for no more."""

    suffix = ""
    takes = "nothing"
    has_data = False
    hub_task = "other"

    source: dict[str, Any] = field(default_factory=dict)

    @property
    def data_id(self) -> str:
        """There is none: ConfigError."""
        what = f'task "{self.name}" has no data, which calibration, a choice on validation data and evaluation need.'
        raise ConfigError(what, where="tasks", remedy="Describe them in the config, or in the file of --data.")

    def data_source(self, where: str = "") -> None:
        """None."""

    def write_split(self, path: Path, examples: Any, where: str) -> int:
        """Never asked for."""
        raise NotImplementedError

    def classes_in(self, path: Path) -> Iterable[str]:
        """None."""
        return ()
