"""Text tasks from data sets of the Hugging Face hub: only the parquet shards of the splits in use are fetched."""

from __future__ import annotations

from dataclasses import dataclass

from pmqbench.tasks.sources.base import DATA_SOURCES
from pmqbench.tasks.sources.hub import HubData
from pmqbench.tasks.sources.rows import TextRows


@DATA_SOURCES.register("hub_text")
@dataclass(frozen=True, kw_only=True)
class HubText(HubData, TextRows):
    """Rows of text of the hub."""
