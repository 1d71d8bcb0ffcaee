"""Text tasks from local JSON-lines, CSV or parquet files: anyone's own task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pmqbench.errors import DataError
from pmqbench.files import hash8
from pmqbench.tasks.sources.base import DATA_SOURCES
from pmqbench.tasks.sources.parts import check_folder
from pmqbench.tasks.sources.rows import TextRows

SUFFIXES = (".jsonl", ".csv", ".parquet")


@DATA_SOURCES.register("local_text")
@dataclass(frozen=True, kw_only=True)
class LocalText(TextRows):
    """A folder with one file a split, `<split>.jsonl`, `<split>.csv` or `<split>.parquet`, one row an example."""

    path: Annotated[str, Field(min_length=1, description="The folder, absolute or from where Snakemake runs.")]

    def check(self, where: str) -> None:
        """Also refuses a folder that is not there."""
        super().check(where)
        check_folder(self._folder(), where)

    def state(self) -> Any:
        """A hash of the splits' names, sizes and times, so that a changed file is read again."""
        names = sorted({f"{split}{suffix}" for split in self.splits.values() for suffix in SUFFIXES})
        files = [(name, path.stat()) for name in names if (path := self._folder() / name).is_file()]
        return hash8([(name, status.st_size, status.st_mtime_ns) for name, status in files])

    def files(self, split: str, where: str) -> Sequence[Path]:
        """The split's file; DataError if there is none, or more than one."""
        found = [path for suffix in SUFFIXES if (path := self._folder() / f"{split}{suffix}").is_file()]
        if len(found) != 1:
            names = [path.name for path in found] or [f"{split}{suffix}" for suffix in SUFFIXES]
            either = f"both {' and '.join(names)}" if found else f"neither {' nor '.join(names)}"
            what = f"there is {either} in {self._folder()}."
            raise DataError(what, where=where, remedy="Give one of them, or check `path` and `splits` of the task's source.")
        return found

    def _folder(self) -> Path:
        return Path(self.path).expanduser().resolve()
