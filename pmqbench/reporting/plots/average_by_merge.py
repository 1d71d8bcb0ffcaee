"""Averages of all merges, at full precision and under the methods that every merge has."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pmqbench.reporting.entries import EXPERTS, PRETRAINED
from pmqbench.reporting.plot_data import INTERVALS, PlotData, reference, whiskers
from pmqbench.reporting.statistics import Summary
from pmqbench.reporting.style import RC, STAR, finish, line_handles, methods
from pmqbench.reporting.verdicts import FULL_PRECISION

WIDTH = 7.5  # inches
ROW, POINT = 0.26, 0.11  # inches of a merge at least, and of each of its points
BAND = 0.76  # of a row, which its points share


def draw(data: PlotData) -> Figure:
    """A row per merge, the best at full precision on top; points with whiskers."""
    summary = data.summary
    merged = summary.entries[summary.entries["kind"] == "merged"].sort_values("average", kind="stable")
    shared = shared_methods(methods(summary.entries), set(merged["merge"]))
    labels = list(dict.fromkeys(shared["label"]))
    rows = {merge: row for row, merge in enumerate(merged["merge"])}
    places = (np.arange(len(labels) + 1) - len(labels) / 2) * BAND / (len(labels) + 1)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, len(rows) * max(ROW, POINT * len(places)) + 1.8), layout="constrained")
        axis = figure.subplots()
        for _, entry in merged.iterrows():
            point(axis, entry, rows[entry["merge"]] - places[0], STAR)
        for _, entry in shared.iterrows():
            place = rows[entry["merge"]] - places[1 + labels.index(entry["label"])]
            point(axis, entry, place, entry["style"].point(entry["grouped"]))
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set(xlabel="average over tasks (%)", ylabel="merge", ylim=(-0.6, len(rows) - 0.4))
        handles = [Line2D([], [], label=FULL_PRECISION, **STAR), *line_handles(shared, joined=False)]
        finish(figure, handles, caption(summary, shared))
    return figure


def shared_methods(quantized: pd.DataFrame, merges: set[str]) -> pd.DataFrame:
    """The entries of the methods that every merge has, at the greatest width at which there are any; may be empty."""
    having = quantized.groupby(["label", "bits"])["merge"].transform("nunique")
    shared = quantized[having == len(merges)]
    return shared[shared["bits"] == shared["bits"].max()]


def point(axis: matplotlib.axes.Axes, entry: pd.Series, place: float, look: dict[str, object]) -> None:
    """An average with its whisker."""
    errors = whiskers(*(np.array([entry[name]]) for name in ("ci_low", "average", "ci_high")))
    axis.errorbar(100 * entry["average"], place, xerr=errors, elinewidth=0.8, **look | {"markersize": 0.8 * look["markersize"]})


def caption(summary: Summary, shared: pd.DataFrame) -> str:
    """What is drawn, and where the references are."""
    averages = {
        name: 100 * summary.entries["average"][number] for name in (EXPERTS, PRETRAINED) for number in reference(summary, name)
    }
    beyond = f" References: {', '.join(f'{name} {average:.1f}' for name, average in averages.items())}." if averages else ""
    width = "" if shared.empty else f" Quantized: {shared['bits'].iloc[0]} bits, the methods that every merge has."
    return f"Suite {summary.suite}: average over {len(summary.tasks)} tasks.{width}{beyond} {INTERVALS}"
