"""What plots are drawn from, and what several of them share."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pmqbench.errors import DataError
from pmqbench.reporting.statistics import Summary

INTERVALS = (
    "Means over seeds; whiskers are 95 % intervals, a bootstrap over test examples (within each task) and calibration seeds."
)


@dataclass(frozen=True)
class PlotData:
    """A report's numbers.

    Attributes:
        summary: of its records.
        layers: of its quantized models, as from `collect_layers`.
        curves: of its refined models, as from `collect_curves`.
    """

    summary: Summary
    layers: pd.DataFrame
    curves: pd.DataFrame


def draw(name: str, data: PlotData) -> Figure:
    """The plot that a file of `reporting/plots/` is called like."""
    return importlib.import_module(f"pmqbench.reporting.plots.{name}").draw(data)


def whiskers(low: np.ndarray, middle: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(2, k) distances for error bars, in percent; never negative, as they would be by rounding where all replicates agree."""
    return 100 * np.maximum([middle - low, high - middle], 0)


def compared_merges(quantized: pd.DataFrame) -> list[str]:
    """The merges that have a panel where methods are compared: those with several quantized models, or all if none has.

    `average_by_merge` has every merge.
    """
    models = quantized.groupby("merge", sort=False).size()
    several = models[models > 1]
    return list(models.index if several.empty else several.index)


def merges_left_out(quantized: pd.DataFrame) -> str:
    """Says in a caption how many merges have no panel; "" if all have one."""
    left_out = quantized["merge"].nunique() - len(compared_merges(quantized))
    return f" {left_out} more merges, with one quantized model each: plot average_by_merge." if left_out else ""


def full_precision(summary: Summary, merge: str) -> int:
    """Number of the entry of a merge at full precision; DataError if there is none."""
    entries = summary.entries
    found = entries.index[(entries["kind"] == "merged") & (entries["merge"] == merge)]
    if found.empty:
        raise DataError("the merged model was not evaluated at full precision.", where=merge, remedy="Evaluate it.")
    return int(found[0])


def reference(summary: Summary, name: str) -> list[int]:
    """Numbers of the entries (one, or none) that are EXPERTS or PRETRAINED."""
    return list(summary.entries.index[summary.entries["merge"] == name])
