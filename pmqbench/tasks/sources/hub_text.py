"""Text tasks from data sets of the Hugging Face hub: only the parquet shards of the splits in use are fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pmqbench.hub import Repo
from pmqbench.tasks.sources.base import DATA_SOURCES
from pmqbench.tasks.sources.hub import fetch_split
from pmqbench.tasks.sources.rows import TextRows


@DATA_SOURCES.register("hub_text")
@dataclass(frozen=True, kw_only=True)
class HubText(TextRows):
    """A data set of the hub, in parquet (or converted by the hub: revision refs/convert/parquet)."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", description="Data set, owner/name.")]
    config: Annotated[str | None, Field(description="Configuration, where a data set has several.")] = None
    revision: Annotated[
        str | None, Field(description="Commit sha (best), branch or tag; null: the default branch as it is.")
    ] = None

    def files(self, split: str, where: str) -> Sequence[Path]:
        """See TextRows."""
        return fetch_split(Repo(self.id, kind="dataset", revision=self.revision), self.config, split, where)
