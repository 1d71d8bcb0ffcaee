"""Averages by bits."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pmqbench.reporting.entries import EXPERTS, PRETRAINED
from pmqbench.reporting.plot_data import INTERVALS, PlotData, full_precision, reference, whiskers
from pmqbench.reporting.statistics import FULL_PRECISION, Summary
from pmqbench.reporting.style import (
    RC,
    REFERENCE_COLOUR,
    REFERENCE_LINES,
    finish,
    line_handles,
    methods,
    panels,
    reference_handles,
    styles,
)


def draw(data: PlotData) -> Figure:
    """Average over bits for every method, with whiskers; one panel per merge, references as lines."""
    summary = data.summary
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
    """Inches of a panel of the plot: larger when many lines share it."""
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
