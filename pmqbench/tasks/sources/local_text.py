"""Text tasks from local JSON-lines or parquet files: anyone's own task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pmqbench.errors import DataError
from pmqbench.files import hash8
from pmqbench.tasks.sources.base import DATA_SOURCES
from pmqbench.tasks.sources.rows import TextRows

SUFFIXES = (".jsonl", ".parquet")


@DATA_SOURCES.register("local_text")
@dataclass(frozen=True, kw_only=True)
class LocalText(TextRows):
    """A folder with `<split>.jsonl` or `<split>.parquet` files, one row an example."""

    path: Annotated[str, Field(min_length=1, description="The folder, absolute or from where Snakemake runs.")]

    def state(self) -> Any:
        """See DataSource: a hash of names, sizes and times, so that a changed file is read again."""
        files = [(path.name, path.stat()) for path in sorted(self._folder().glob("*")) if path.suffix in SUFFIXES]
        return hash8([(name, status.st_size, status.st_mtime_ns) for name, status in files])

    def files(self, split: str, where: str) -> Sequence[Path]:
        """See TextRows."""
        found = [path for suffix in SUFFIXES if (path := self._folder() / f"{split}{suffix}").is_file()]
        if len(found) != 1:
            either = f"both {split}.jsonl and" if found else f"neither {split}.jsonl nor"
            what = f"there is {either} {split}.parquet in {self._folder()}."
            raise DataError(what, where=where, remedy="Give one of them, or check `path` and `splits` of the task's source.")
        return found

    def _folder(self) -> Path:
        return Path(self.path).expanduser().resolve()
