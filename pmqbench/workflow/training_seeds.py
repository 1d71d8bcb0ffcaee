"""What `snakemake seeds` is made of: the layouts of a suite by training seed, and the records of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pmqbench.recipes import Suite
from pmqbench.workflow.layout import REPORTS, Layout
from pmqbench.workflow.reports import Reports

TABLES = ("records.parquet", "variance.csv", "differences.csv", "variance.md")
FIGURES = ("variance.svg", "variance.png")


@dataclass(frozen=True)
class TrainingSeeds:
    """The suite as it is trained with each seed; `layout` is that of the suite itself."""

    layout: Layout

    @cached_property
    def layouts(self) -> dict[int, Layout]:
        """Training seed -> layout. Artefacts of all seeds lie below the same results/, since their ids cover the base."""
        return {seed: Layout(suite) for seed, suite in self.layout.suite.by_training_seed.items()}

    def anew(self) -> dict[str, Suite]:
        """Prefix of rules' names -> the suite as trained with another seed than its own, whose artefacts are there already."""
        own = self._trained(self.layout)
        return {f"training_{seed}_": other.suite for seed, other in self.layouts.items() if self._trained(other) != own}

    @property
    def folder(self) -> str:
        """The report's folder, whether or not the suite has one."""
        return f"{REPORTS}/{self.layout.suite.name}@seeds"

    def rows(self, wildcards: Any) -> list[dict[str, Any]]:
        """Every record with its training seed and the suite's names of its recipes."""
        return [
            {"training_seed": seed, **row}
            for seed, layout in self.layouts.items()
            for row in Reports(layout).record_rows_of(layout.suite.targets["default"])
        ]

    def record_files(self, wildcards: Any) -> list[str]:
        """The files of `rows`."""
        return list(dict.fromkeys(row["path"] for row in self.rows(wildcards)))

    def files(self, wildcards: Any) -> list[str]:
        """Everything the report shows; ConfigError if the config names no training seeds."""
        folder = Reports(self.layout).folder("seeds")
        return [f"{folder}/{name}" for name in (*TABLES, *FIGURES)]

    def _trained(self, layout: Layout) -> list[str]:
        return [layout.suite.base_id, *layout.experts]
