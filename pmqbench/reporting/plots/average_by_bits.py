"""Averages by bits."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
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

SHIFT = 0.3  # of a bit, or of the distance between two widths that are closer
ROOM, MINIMAL_ROOM = 0.08, 0.005  # of what the models span, and of 1, above and below


def draw(data: PlotData) -> Figure:
    """Average over bits for every method, with whiskers; one panel per merge, references as lines."""
    summary = data.summary
    quantized = methods(summary.entries)
    merges, labels = list(dict.fromkeys(quantized["merge"])), list(dict.fromkeys(quantized["label"]))
    style, widths = styles(quantized["quantizer"]), sorted(quantized["bits"].unique())
    shift = whisker_shifts(len(labels), widths)
    low, high = limits(quantized, summary)
    with matplotlib.rc_context(RC):
        figure, axes = panels(len(merges), *bits_panel(len(labels), len(widths)))
        for axis, merge in zip(axes, merges, strict=True):
            average_references(axis, summary, merge)
            for label, rows in quantized[quantized["merge"] == merge].groupby("label", sort=False):
                rows = rows.sort_values("bits")
                bits = rows["bits"].to_numpy(float)
                errors = whiskers(rows["ci_low"], rows["average"], rows["ci_high"])
                look = style[rows["quantizer"].iloc[0]].line(rows["grouped"].iloc[0])
                axis.plot(bits, 100 * rows["average"], **look)
                beside = {"color": look["color"], "linestyle": "none", "marker": "_", "markersize": 4}
                axis.errorbar(bits + shift[labels.index(label)], 100 * rows["average"], errors, elinewidth=0.9, **beside)
            axis.set(title=f"merge: {merge}", xlabel="bits per weight", ylabel="average over tasks (%)")
            axis.set_xticks(widths, [str(width) for width in widths])
            axis.set_xlim(widths[0] - 0.5, widths[-1] + 0.5)
            axis.set_ylim(low, high)
            axis.grid(visible=False, axis="x")
            name_what_is_off(axis, summary)
        handles = [*line_handles(quantized), *reference_handles(REFERENCE_LINES)]
        caption = f"Suite {summary.suite}: average over {len(summary.tasks)} tasks. {INTERVALS}"
        finish(figure, handles, f"{caption} Whiskers stand beside their points.")
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


def name_what_is_off(axis: Axes, summary: Summary) -> None:
    """Says where a reference is whose line is beyond the axis, whose limits are final."""
    low, high = axis.get_ylim()
    for name in (EXPERTS, PRETRAINED):
        for average in 100 * summary.entries["average"][reference(summary, name)]:
            if not low <= average <= high:
                above = average > high
                text = f"{'↑' if above else '↓'} {name} {average:.1f}"
                where = {"xy": (0.98, 0.985 if above else 0.015), "va": "top" if above else "bottom"}
                axis.annotate(text, xycoords="axes fraction", ha="right", fontsize=8, **where)


def limits(quantized: pd.DataFrame, summary: Summary) -> tuple[float, float]:
    """Percent from the lowest to the highest whisker or merge at full precision, with some room: models fill the panel."""
    merged = summary.entries.loc[summary.entries["kind"] == "merged", "average"]
    low, high = min(quantized["ci_low"].min(), merged.min()), max(quantized["ci_high"].max(), merged.max())
    room = max(ROOM * (high - low), MINIMAL_ROOM)
    return 100 * (low - room), 100 * (high + room)


def whisker_shifts(count: int, widths: list[int]) -> np.ndarray:
    """How far beside its point each method's whisker stands, in bits."""
    nearest = min([*np.diff(widths), 1])
    return nearest * np.linspace(-SHIFT, SHIFT, count) if count > 1 else np.zeros(1)
