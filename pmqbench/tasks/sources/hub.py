"""Labelled images from data sets of the Hugging Face hub: only the parquet shards of the splits in use are fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pmqbench.errors import DataError
from pmqbench.hub import Repo, explained, fetch, resolve
from pmqbench.tasks.sources.base import DATA_SOURCES
from pmqbench.tasks.sources.labelled import LabelledImages

if TYPE_CHECKING:
    from pmqbench.tasks.tables import Table


@dataclass(frozen=True, kw_only=True)
class HubData:
    """A data set of the hub, in parquet (or converted by the hub: revision refs/convert/parquet)."""

    downloads = True

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", description="Data set, owner/name.")]
    config: Annotated[str | None, Field(description="Configuration, where a data set has several.")] = None
    revision: Annotated[
        str | None, Field(description="Commit sha (best), branch or tag; null: the default branch as it is.")
    ] = None

    def pinned(self) -> tuple[HubData, str]:
        """The source at the commit that its revision is now: all splits come from one, even if the branch moves meanwhile."""
        repo = Repo(self.id, kind="dataset", revision=self.revision)
        with explained(repo):
            commit = resolve(repo)
        return replace(self, revision=commit), commit

    def files(self, split: str, where: str) -> list[Path]:
        """The tables of a split, in order; DataError if there is none."""
        return self._fetch(split, where)[0]

    def stated_classes(self, split: str, label: str, where: str) -> list[str] | None:
        """Names of a label's classes that the data set's card states, or None."""
        from pmqbench.tasks.shards import stated_classes

        return stated_classes(self._fetch(split, where)[1], self.config, label)

    @cached_property
    def _fetched(self) -> dict[str, tuple[list[Path], str]]:
        return {}

    def _fetch(self, split: str, where: str) -> tuple[list[Path], str]:
        """Tables of a split, and the data set's card; brought and verified once."""
        from pmqbench.tasks.shards import shards

        repo = Repo(self.id, kind="dataset", revision=self.revision)
        where, cards = f"{where}, {repo}", []

        def choose(names: Sequence[str], get: Callable[[str], Path]) -> list[str]:
            cards.append(get("README.md").read_text(encoding="utf-8", errors="replace") if "README.md" in names else "")
            chosen = shards(names, split, where, self.config, cards[0])
            if not chosen:
                remedy = "Check `config`, `splits` and `revision` (refs/convert/parquet is the hub's own conversion)."
                raise DataError(f'no parquet file holds split "{split}".', where=where, remedy=remedy)
            return chosen

        if split not in self._fetched:
            self._fetched[split] = list(fetch(repo, choose).files.values()), cards[0]
        return self._fetched[split]


@DATA_SOURCES.register("hub")
@dataclass(frozen=True, kw_only=True)
class HubImages(HubData, LabelledImages):
    """Labelled images of the hub."""

    def table(self, split: str, where: str) -> Table:
        """The tables of a split; a path in them would name a file of this machine, so they must hold the images' bytes."""
        from pmqbench.tasks.tables import Table

        stated = self.stated_classes(split, self.label, where)
        return Table(self.files(split, where), self.image, self.label, where, stated=stated)
