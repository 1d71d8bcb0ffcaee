"""Averages by storage, and the Pareto front."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pmqbench.reporting.pareto import draw_panels
from pmqbench.reporting.plot_data import INTERVALS, PlotData, compared_merges, full_precision, merges_left_out
from pmqbench.reporting.statistics import Summary
from pmqbench.reporting.style import methods
from pmqbench.reporting.verdicts import FULL_PRECISION


def draw(data: PlotData) -> Figure:
    """Average against storage; one panel per merge; the Pareto front (better than all smaller) is labelled."""
    summary = data.summary
    quantized = methods(summary.entries)
    names = [f"{label}, {bits} bits" for label, bits in zip(quantized["label"], quantized["bits"], strict=True)]
    quantized = quantized.assign(name=names)
    clouds = {f"merge: {merge}": with_full_precision(summary, quantized, merge) for merge in compared_merges(quantized)}
    caption = f"Suite {summary.suite}: average over {len(summary.tasks)} tasks against storage. {INTERVALS}"
    caption += f" Models of one size stand beside each other.{merges_left_out(quantized)}"
    return draw_panels(clouds, quantized, "size_mb", "size of the weights (MB)", caption)


def with_full_precision(summary: Summary, quantized: pd.DataFrame, merge: str) -> pd.DataFrame:
    """A merge's quantized entries and, last, itself at full precision, which its star names well enough."""
    full = summary.entries.loc[[full_precision(summary, merge)]].assign(label=FULL_PRECISION, grouped=0, name="")
    return pd.concat([quantized[quantized["merge"] == merge], full])
