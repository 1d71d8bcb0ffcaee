"""Averages by bits."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    RC,
    REFERENCE_COLOUR,
    REFERENCE_LINES,
    finish,
    line_handles,
    methods,
    panels,
    reference_handles,
)
from pmqbench.reporting.verdicts import FULL_PRECISION

SHIFT = 0.2  # of the distance between the two nearest widths, on the logarithmic axis
MANY = 12  # methods whose whiskers can no longer be told apart
MARGIN = 1.3  # beside the least and the most bits: a factor
ROOM, MINIMAL_ROOM = 0.08, 0.005  # of what the models span, and of 1, above and below


def draw(data: PlotData) -> Figure:
    """Average over bits for every method, with whiskers; one panel per merge, references as lines."""
    summary = data.summary
    quantized = methods(summary.entries)
    merges = compared_merges(quantized)
    shown = quantized[quantized["merge"].isin(merges)]
    widths, most = sorted(shown["bits"].unique()), shown.groupby("merge")["label"].nunique().max()
    low, high = limits(shown, summary)
    with matplotlib.rc_context(RC):
        figure, axes = panels(len(merges), *bits_panel(most, len(widths)))
        for axis, merge in zip(axes, merges, strict=True):
            average_references(axis, summary, merge)
            lines = list(shown[shown["merge"] == merge].groupby("label", sort=False))
            for (_, rows), shift in zip(lines, whisker_shifts(len(lines), widths), strict=True):
                rows = rows.sort_values("bits")
                bits = rows["bits"].to_numpy(float)
                errors = whiskers(rows["ci_low"], rows["average"], rows["ci_high"])
                look = rows["style"].iloc[0].line(rows["grouped"].iloc[0])
                axis.plot(bits, 100 * rows["average"], **look)
                if len(lines) <= MANY:
                    beside = {"color": look["color"], "linestyle": "none", "marker": "_", "markersize": 4}
                    axis.errorbar(bits * shift, 100 * rows["average"], errors, elinewidth=0.9, **beside)
            axis.set(title=f"merge: {merge}", xlabel="bits per weight, logarithmic", ylabel="average over tasks (%)")
            axis.set_xscale("log", base=2)
            axis.set_xticks(widths, [str(width) for width in widths], minor=False)
            axis.set_xlim(widths[0] / MARGIN, widths[-1] * MARGIN)
            axis.set_ylim(low, high)
            axis.grid(visible=False, axis="x")
            name_what_is_off(axis, summary)
        handles = [*line_handles(shown), *reference_handles(REFERENCE_LINES)]
        caption = f"Suite {summary.suite}: average over {len(summary.tasks)} tasks. {INTERVALS}"
        where = "Whiskers stand beside their points" + (
            f"; panels of more than {MANY} methods have none." if most > MANY else "."
        )
        finish(figure, handles, f"{caption} {where}{merges_left_out(quantized)}")
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


def limits(shown: pd.DataFrame, summary: Summary) -> tuple[float, float]:
    """Percent from the lowest to the highest whisker or merge at full precision, with some room: models fill the panel."""
    merged = summary.entries["average"][[full_precision(summary, merge) for merge in shown["merge"].unique()]]
    low, high = min(shown["ci_low"].min(), merged.min()), max(shown["ci_high"].max(), merged.max())
    room = max(ROOM * (high - low), MINIMAL_ROOM)
    return 100 * (low - room), 100 * (high + room)


def whisker_shifts(count: int, widths: list[int]) -> np.ndarray:
    """How far beside its point each method's whisker stands: factors of its bits."""
    nearest = min([*np.diff(np.log2(widths)), 1])
    return 2 ** (nearest * np.linspace(-SHIFT, SHIFT, count)) if count > 1 else np.ones(1)
