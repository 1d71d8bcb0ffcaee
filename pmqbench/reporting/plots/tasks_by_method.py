"""Metrics by task: bars of every method at one bit width, one panel per merge."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pmqbench.errors import DataError
from pmqbench.reporting.entries import EXPERTS, PRETRAINED
from pmqbench.reporting.plot_data import INTERVALS, PlotData, full_precision, reference, whiskers
from pmqbench.reporting.statistics import FULL_PRECISION, Summary
from pmqbench.reporting.style import (
    RC,
    REFERENCE_COLOUR,
    REFERENCE_LINES,
    bar_handles,
    finish,
    methods,
    panels,
    reference_handles,
    styles,
)

FULL_PRECISION_BAR = "#BBBBBB"
CROWDED = 8  # tasks whose names no longer fit side by side


def draw(data: PlotData) -> Figure:
    """Bars per task and method at one bit width; one panel per merge.

    Raises:
        DataError: nothing is quantized to that many bits.
    """
    summary, bits = data.summary, data.bits
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
