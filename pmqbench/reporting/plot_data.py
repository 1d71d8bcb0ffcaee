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
        bits: the width that plots of one width show.
    """

    summary: Summary
    layers: pd.DataFrame
    curves: pd.DataFrame
    bits: int


def draw(name: str, data: PlotData) -> Figure:
    """The plot that a file of `reporting/plots/` is called like."""
    return importlib.import_module(f"pmqbench.reporting.plots.{name}").draw(data)


def whiskers(low: np.ndarray, middle: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(2, k) distances for error bars, in percent; never negative, as they would be by rounding where all replicates agree."""
    return 100 * np.maximum([middle - low, high - middle], 0)


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
