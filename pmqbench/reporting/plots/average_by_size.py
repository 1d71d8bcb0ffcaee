"""Averages by storage, and the Pareto front."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pmqbench.reporting.labels import column_share, label_column
from pmqbench.reporting.plot_data import INTERVALS, PlotData, full_precision, whiskers
from pmqbench.reporting.statistics import FULL_PRECISION, Summary
from pmqbench.reporting.style import RC, REFERENCE_COLOUR, finish, line_handles, methods, panels, plain_log, styles

FRONT_COLOUR = "#999999"
STAR = {"linestyle": "none", "marker": "*", "color": REFERENCE_COLOUR, "markersize": 10}
AXES_INCHES = (4.0, 3.6)  # of a panel, without its labels


def draw(data: PlotData) -> Figure:
    """Average against storage; one panel per merge; the Pareto front (better than all smaller) is labelled."""
    summary = data.summary
    quantized = methods(summary.entries)
    style, merges = styles(quantized["quantizer"]), list(dict.fromkeys(quantized["merge"]))
    with matplotlib.rc_context(RC):
        figure, axes = panels(len(merges), 4.8, 4.4)
        clouds = [with_full_precision(summary, quantized, merge) for merge in merges]
        for axis, merge, rows in zip(axes, merges, clouds, strict=True):
            for _, row in rows.iterrows():
                look = STAR if row["label"] == FULL_PRECISION else style[row["quantizer"]].point(row["grouped"])
                errors = whiskers(*(np.array([row[key]]) for key in ("ci_low", "average", "ci_high")))
                axis.errorbar(row["size_mb"], 100 * row["average"], errors, elinewidth=0.6, **look)
            front = pareto_front(rows)
            axis.step(front["size_mb"], 100 * front["average"], where="post", color=FRONT_COLOUR, linewidth=1.0, zorder=1)
            axis.set(title=f"merge: {merge}", xlabel="size of the weights (MB, logarithmic)", ylabel="average over tasks (%)")
        for axis, rows in zip(axes, clouds, strict=True):  # the shared limits are final now
            label_front(axis, rows)
        handles = [*line_handles(quantized, joined=False), Line2D([], [], label=FULL_PRECISION, **STAR)]
        handles += [Line2D([], [], color=FRONT_COLOUR, label="Pareto front (labelled)")]
        finish(figure, handles, f"Suite {summary.suite}: average over {len(summary.tasks)} tasks against storage. {INTERVALS}")
    return figure


def with_full_precision(summary: Summary, quantized: pd.DataFrame, merge: str) -> pd.DataFrame:
    """A merge's quantized entries and, last, itself at full precision."""
    full = summary.entries.loc[[full_precision(summary, merge)]].assign(label=FULL_PRECISION, grouped=0)
    return pd.concat([quantized[quantized["merge"] == merge], full])


def pareto_front(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are better than all smaller ones, by size."""
    rows = rows.sort_values(["size_mb", "average"], ascending=[True, False])
    return rows[rows["average"] > rows["average"].cummax().shift(fill_value=-np.inf)]


def label_front(axis: Axes, rows: pd.DataFrame) -> None:
    """Writes method and bits of the Pareto front's points on the left; the star of full precision needs no label."""
    front = pareto_front(rows)
    front = front[front["label"] != FULL_PRECISION]
    texts = [f"{label}, {bits} bits" for label, bits in zip(front["label"], front["bits"], strict=True)]
    size_axis(axis, rows["size_mb"], column_share(texts, AXES_INCHES[0]))
    axis.set_ylim(axis.get_ylim())
    label_column(axis, front["size_mb"], 100 * front["average"], texts, AXES_INCHES[1])


def size_axis(axis: Axes, sizes: pd.Series, left: float) -> None:
    """A logarithmic axis with plain numbers, whose share `left` is kept free for labels."""
    low, high = np.log(sizes.min()), np.log(sizes.max())
    margin = 0.05 * (high - low)
    axis.set_xscale("log")
    axis.set_xlim(np.exp(high + margin - (high - low + 2 * margin) / (1 - left)), np.exp(high + margin))
    plain_log(axis.xaxis)
