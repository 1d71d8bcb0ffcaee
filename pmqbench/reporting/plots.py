"""A suite's plots from its summary: metrics by task, by bits and by size. Deviations by layer are in layer_plot.py.

Every function returns a Figure, which `style.save` writes as SVG and PNG.
"""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pmqbench.errors import DataError
from pmqbench.reporting.labels import column_share, label_column
from pmqbench.reporting.statistics import EXPERTS, FULL_PRECISION, PRETRAINED, Summary
from pmqbench.reporting.style import (
    RC,
    REFERENCE_COLOUR,
    REFERENCE_LINES,
    bar_handles,
    finish,
    line_handles,
    methods,
    panels,
    plain_log,
    reference_handles,
    styles,
)

INTERVALS = (
    "Means over seeds; whiskers are 95 % intervals, a bootstrap over test examples (within each task) and calibration seeds."
)
FULL_PRECISION_BAR = "#BBBBBB"
FRONT_COLOUR = "#999999"
STAR = {"linestyle": "none", "marker": "*", "color": REFERENCE_COLOUR, "markersize": 10}
AXES_INCHES = (4.0, 3.6)  # of a panel in by_size, without its labels
CROWDED = 8  # tasks whose names no longer fit side by side


def by_task(summary: Summary, bits: int) -> Figure:
    """Bars per task and method at one bit width; one panel per merge.

    Raises:
        DataError: nothing is quantized to that many bits.
    """
    quantized = methods(summary.entries[summary.entries["bits"] == bits])
    if quantized.empty:
        raise DataError(f"no model with {bits} bits to plot.", where=summary.suite)
    merges, labels = list(dict.fromkeys(quantized["merge"])), list(dict.fromkeys(quantized["label"]))
    style, count = styles(quantized["quantizer"]), len(labels) + 1
    width = min(18.0, max(8.0, 0.13 * count * len(summary.tasks) + 1.0))
    with matplotlib.rc_context(RC):
        figure, axes = panels(len(merges), width, 2.6, columns=1)
        for axis, merge in zip(axes, merges, strict=True):
            task_bars(axis, summary, full_precision(summary, merge), 0, count, color=FULL_PRECISION_BAR)
            for number, row in quantized[quantized["merge"] == merge].iterrows():
                look = style[row["quantizer"]].bar(row["grouped"])
                task_bars(axis, summary, number, 1 + labels.index(row["label"]), count, **look)
            task_references(axis, summary)
            axis.set(title=f"merge: {merge}", ylabel="task metric (%)", xlim=(-0.6, len(summary.tasks) - 0.4))
            turn = {"rotation": 30, "ha": "right"} if len(summary.tasks) > CROWDED else {}
            axis.set_xticks(range(len(summary.tasks)), summary.tasks, **turn)
            axis.grid(visible=False, axis="x")
        axes[-1].set_xlabel("task")
        handles = [Patch(facecolor=FULL_PRECISION_BAR, label=FULL_PRECISION), *bar_handles(quantized)]
        handles += reference_handles((EXPERTS, PRETRAINED))
        finish(figure, handles, f"Suite {summary.suite}, {bits} bits, by task. {INTERVALS}")
    return figure


def task_bars(axis: Axes, summary: Summary, number: int, place: int, count: int, **look: object) -> None:
    """One entry's bars: the `place`-th of `count` in every task's group."""
    width = 0.8 / count
    x = np.arange(len(summary.tasks)) + (place + 0.5) * width - 0.4
    values = summary.values[number]
    errors = whiskers(summary.low[number], values, summary.high[number])
    axis.bar(x, 100 * values, width, yerr=errors, error_kw={"elinewidth": 0.7, "ecolor": "#333333"}, **look)


def task_references(axis: Axes, summary: Summary) -> None:
    """A short line across every task's group for the expert and for the base."""
    x = np.arange(len(summary.tasks))
    for name in (EXPERTS, PRETRAINED):
        look = {"color": REFERENCE_COLOUR, "linestyle": REFERENCE_LINES[name], "linewidth": 1.2}
        for number in reference(summary, name):
            axis.hlines(100 * summary.values[number], x - 0.44, x + 0.44, **look)


def whiskers(low: np.ndarray, middle: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(2, k) distances for error bars, in percent; never negative, as they would be by rounding where all replicates agree."""
    return 100 * np.maximum([middle - low, high - middle], 0)


def by_bits(summary: Summary) -> Figure:
    """Average over bits for every method, with whiskers; one panel per merge, references as lines."""
    quantized = methods(summary.entries)
    merges, labels = list(dict.fromkeys(quantized["merge"])), list(dict.fromkeys(quantized["label"]))
    style, widths = styles(quantized["quantizer"]), sorted(quantized["bits"].unique())
    shift = np.linspace(-0.3, 0.3, len(labels)) if len(labels) > 1 else [0.0]
    with matplotlib.rc_context(RC):
        figure, axes = panels(len(merges), *bits_panel(len(labels), len(widths)))
        for axis, merge in zip(axes, merges, strict=True):
            average_references(axis, summary, merge)
            for label, rows in quantized[quantized["merge"] == merge].groupby("label", sort=False):
                rows = rows.sort_values("bits")
                x = [widths.index(width) + shift[labels.index(label)] for width in rows["bits"]]
                errors = whiskers(rows["ci_low"], rows["average"], rows["ci_high"])
                look = style[rows["quantizer"].iloc[0]].line(rows["grouped"].iloc[0])
                axis.errorbar(x, 100 * rows["average"], errors, elinewidth=0.9, **look)
            axis.set(title=f"merge: {merge}", xlabel="bits per weight", ylabel="average over tasks (%)")
            axis.set_xticks(range(len(widths)), [str(width) for width in widths])
            axis.set_xlim(-0.5, len(widths) - 0.5)
            axis.grid(visible=False, axis="x")
        handles = [*line_handles(quantized), *reference_handles(REFERENCE_LINES)]
        caption = f"Suite {summary.suite}: average over {len(summary.tasks)} tasks. {INTERVALS}"
        finish(figure, handles, f"{caption} Points are shifted sideways to show all.")
    return figure


def bits_panel(lines: int, widths: int) -> tuple[float, float]:
    """Inches of a panel of by_bits: larger when many lines share it."""
    return min(7.0, max(4.2, 0.12 * lines * widths)), min(6.0, max(4.2, 0.45 * lines))


def average_references(axis: Axes, summary: Summary, merge: str) -> None:
    """Horizontal lines: the merge at full precision, the individual experts and the pre-trained model."""
    found = {FULL_PRECISION: [full_precision(summary, merge)]} | {
        name: reference(summary, name) for name in (EXPERTS, PRETRAINED)
    }
    for name, numbers in found.items():
        look = {"color": REFERENCE_COLOUR, "linestyle": REFERENCE_LINES[name], "linewidth": 1.2}
        for average in summary.entries["average"][numbers]:
            axis.axhline(100 * average, zorder=1, **look)


def by_size(summary: Summary) -> Figure:
    """Average against storage; one panel per merge; the Pareto front (better than all smaller) is labelled."""
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
