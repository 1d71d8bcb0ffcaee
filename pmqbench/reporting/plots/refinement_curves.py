"""Loss curves of the refined models."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pmqbench.reporting.collect import kept_point
from pmqbench.reporting.plot_data import PlotData
from pmqbench.reporting.style import COLOURS, RC, REFERENCE_COLOUR, finish, method_label, panels, plain_log, sentence

MODEL = ["merge", "quantizer", "bits", "group_size"]
PANEL = (4.4, 3.4)
LOSS = {"linewidth": 0.7, "alpha": 0.6}
HELD_OUT = {"linestyle": "--", "linewidth": 1.1, "marker": "o", "markersize": 3.5}
KEPT = {"linestyle": "none", "marker": "*", "markersize": 13, "markeredgecolor": "#FFFFFF"}


def draw(data: PlotData) -> Figure:
    """Loss over steps, one panel per merge, method and width, one colour per seed; says so if no model was refined."""
    curves = data.curves
    if curves.empty:
        return sentence(f"Suite {data.summary.suite}: no model was refined.")
    seeds = sorted(curves["seed"].unique())
    colours = {seed: COLOURS[place % len(COLOURS)] for place, seed in enumerate(seeds)}
    groups = list(curves.groupby(MODEL, dropna=False, sort=False))
    with matplotlib.rc_context(RC):
        figure, axes = panels(len(groups), *PANEL)
        for axis, ((merge, quantizer, bits, group_size), rows) in zip(axes, groups, strict=True):
            for seed, curve in rows.groupby("seed"):
                draw_curve(axis, curve, colours[seed])
            axis.set_yscale("log")
            axis.set_title(f"merge: {merge}\n{method_label(quantizer, group_size)}, {bits} bits")
            axis.set(xlabel="step", ylabel="loss, logarithmic")
        for axis in axes:  # the shared limits are final now
            plain_log(axis.yaxis)
        caption = (
            f"Suite {data.summary.suite}: how far the refined models are from their experts on unlabelled calibration samples. "
            "Dashed: on samples held out from training; the step with the least, the star, is kept (0: the model as it was)."
        )
        finish(figure, handles(colours), caption)
    return figure


def draw_curve(axis: Axes, curve: pd.DataFrame, colour: str) -> None:
    """One model's losses, and the step that was kept."""
    axis.plot(curve["step"], curve["loss"], color=colour, **LOSS)
    held_out = curve.dropna(subset=["held_out"])
    axis.plot(held_out["step"], held_out["held_out"], color=colour, **HELD_OUT)
    if not held_out.empty:
        kept = kept_point(held_out)
        axis.plot(kept["step"], kept["held_out"], color=colour, zorder=3, **KEPT)


def handles(colours: dict[int, str]) -> list[Artist]:
    """Legend entries: the seeds' colours, and what the lines are."""
    look = {"color": REFERENCE_COLOUR}
    return [
        *(Line2D([], [], color=colour, label=f"seed {seed}") for seed, colour in colours.items()),
        Line2D([], [], label="training samples", **look, **LOSS),
        Line2D([], [], label="held-out samples", **look, **HELD_OUT),
        Line2D([], [], label="kept", **look, **KEPT),
    ]
