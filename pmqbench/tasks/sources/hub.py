"""Labelled images from data sets of the Hugging Face hub: only the parquet shards of the splits in use are fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pmqbench.errors import DataError
from pmqbench.hub import Repo, explained, fetch, resolve
from pmqbench.tasks.sources.base import DATA_SOURCES
from pmqbench.tasks.sources.labelled import LabelledImages

if TYPE_CHECKING:
    from pmqbench.tasks.definitions import Task
    from pmqbench.tasks.tables import Table


@dataclass(frozen=True, kw_only=True)
class HubData:
    """A data set of the hub, in parquet (or converted by the hub: revision refs/convert/parquet)."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", description="Data set, owner/name.")]
    config: Annotated[str | None, Field(description="Configuration, where a data set has several.")] = None
    revision: Annotated[
        str | None, Field(description="Commit sha (best), branch or tag; null: the default branch as it is.")
    ] = None

    def pinned(self) -> tuple[HubData, str]:
        """See DataSource: all splits come from one commit, even if the branch moves meanwhile."""
        repo = Repo(self.id, kind="dataset", revision=self.revision)
        with explained(repo):
            commit = resolve(repo)
        return replace(self, revision=commit), commit

    def files(self, split: str, where: str) -> list[Path]:
        """The parquet files of a split, in order; DataError if there is none."""
        from pmqbench.tasks.tables import shards

        repo = Repo(self.id, kind="dataset", revision=self.revision)

        def choose(names: Sequence[str], get: Callable[[str], Path]) -> list[str]:
            card = get("README.md").read_text(encoding="utf-8") if "README.md" in names else ""
            chosen = shards(names, split, self.config, card)
            if not chosen:
                remedy = "Check `config`, `splits` and `revision` (refs/convert/parquet is the hub's own conversion)."
                raise DataError(f'no parquet file holds split "{split}".', where=f"{where}, {repo}", remedy=remedy)
            return chosen

        return list(fetch(repo, choose).files.values())


@DATA_SOURCES.register("hub")
@dataclass(frozen=True, kw_only=True)
class HubImages(HubData, LabelledImages):
    """Labelled images of the hub."""

    def table(self, task: Task, split: str, where: str) -> Table:
        """See LabelledImages."""
        from pmqbench.tasks.tables import Table

        return Table(self.files(split, where), self.image, self.label, where)
