"""Metrics by task: every method at every bit width, a row of panels per merge and a column per width."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pmqbench.reporting.entries import EXPERTS, PRETRAINED
from pmqbench.reporting.plot_data import (
    INTERVALS,
    PlotData,
    compared_merges,
    full_precision,
    merges_left_out,
    reference,
    whiskers,
)
from pmqbench.reporting.statistics import Summary
from pmqbench.reporting.style import (
    MAX_WIDTH,
    RC,
    REFERENCE_COLOUR,
    REFERENCE_LINES,
    STAR,
    finish,
    grid,
    line_handles,
    methods,
    reference_handles,
)
from pmqbench.reporting.verdicts import FULL_PRECISION

POINT = 0.13  # inches of a point
WIDEST_TO_NARROWEST = 4  # of the panels
NARROWEST, MOST_MARKER = 8.0, 5.5  # inches of the figure, points of a marker
POINTS_PER_INCH = 72
GROUP = 0.8  # of a task's place, which its points share
CROWDED = 0.9  # inches of a task whose name no longer fits unturned


def draw(data: PlotData) -> Figure:
    """Points with whiskers per task and method, the merge at full precision first."""
    summary = data.summary
    quantized = methods(summary.entries)
    merges = compared_merges(quantized)
    shown = quantized[quantized["merge"].isin(merges)]
    labels = {bits: list(dict.fromkeys(rows["label"])) for bits, rows in shown.groupby("bits")}
    widths = sorted(labels, reverse=True)
    counts = np.array([len(labels[bits]) + 1 for bits in widths])
    shares = np.maximum(counts, counts.max() / WIDEST_TO_NARROWEST)
    width = min(MAX_WIDTH, max(NARROWEST, POINT * shares.sum() * len(summary.tasks)))
    inches = width * shares / shares.sum() / len(summary.tasks)  # of a task
    marker = min(MOST_MARKER, 0.7 * POINTS_PER_INCH * (inches / counts).min())
    with matplotlib.rc_context(RC):
        figure, axes = grid(len(merges), len(widths), width / len(widths), 2.6, "all", width_ratios=shares)
        for row, merge in zip(axes, merges, strict=True):
            for axis, bits, count, room in zip(row, widths, counts, inches, strict=True):
                entries = shown[(shown["merge"] == merge) & (shown["bits"] == bits)]
                if entries.empty:
                    axis.remove()
                    continue
                task_points(axis, summary, full_precision(summary, merge), 0, count, STAR | {"markersize": 1.5 * marker})
                for number, entry in entries.iterrows():
                    look = entry["style"].point(entry["grouped"]) | {"markersize": marker}
                    task_points(axis, summary, number, 1 + labels[bits].index(entry["label"]), count, look)
                task_references(axis, summary)
                axis.set(title=f"merge: {merge}, {bits} bits", ylabel="task metric (%)", xlim=(-0.6, len(summary.tasks) - 0.4))
                axis.set_xticks(
                    range(len(summary.tasks)), summary.tasks, **({"rotation": 30, "ha": "right"} if room < CROWDED else {})
                )
                axis.grid(visible=False, axis="x")
        handles = [Line2D([], [], label=FULL_PRECISION, **STAR), *line_handles(shown, joined=False)]
        handles += reference_handles((EXPERTS, PRETRAINED))
        finish(figure, handles, f"Suite {summary.suite}, by task. {INTERVALS}{merges_left_out(quantized)}")
    return figure


def task_points(axis: Axes, summary: Summary, number: int, place: int, count: int, look: dict[str, object]) -> None:
    """One entry's values: the `place`-th of `count` in every task's group."""
    x = np.arange(len(summary.tasks)) + (place + 0.5) * GROUP / count - GROUP / 2
    values = summary.values[number]
    errors = whiskers(summary.low[number], values, summary.high[number])
    axis.errorbar(x, 100 * values, errors, elinewidth=0.7, **look)


def task_references(axis: Axes, summary: Summary) -> None:
    """A short line across every task's group for the expert and for the base."""
    x = np.arange(len(summary.tasks))
    for name in (EXPERTS, PRETRAINED):
        look = {"color": REFERENCE_COLOUR, "linestyle": REFERENCE_LINES[name], "linewidth": 1.2}
        for number in reference(summary, name):
            axis.hlines(100 * summary.values[number], x - 0.44, x + 0.44, **look)
