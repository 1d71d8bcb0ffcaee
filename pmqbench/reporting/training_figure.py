"""The figure of several training seeds: averages, differences to the reference, and what varies, a column a merge and width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pmqbench.reporting.ablation_figure import baseline_look
from pmqbench.reporting.plot_data import whiskers
from pmqbench.reporting.style import COLOURS, RC, REFERENCE_COLOUR, finish, grid, method_label, styles
from pmqbench.reporting.training_seeds import COMPONENTS, seed_columns
from pmqbench.reporting.verdicts import FULL_PRECISION, LEVEL, REFERENCE

PANEL_HEIGHT = 2.4
INCHES_PER_MODEL = 0.55
MEAN_AT, SEEDS_BETWEEN = -0.25, (-0.05, 0.35)  # beside the model's place, in distances between models
BAR = 0.26
COMPONENT_COLOURS = dict(zip(COMPONENTS, (COLOURS[4], COLOURS[1], COLOURS[0]), strict=True))
COMPONENT_NAMES = {"training": "training seed", "calibration": "calibration seed", "examples": "test examples"}


def draw_training(suite: str, averages: pd.DataFrame, differences: pd.DataFrame, seeds: Sequence[int]) -> Figure:
    """The figure.

    Args:
        suite: the suite's name.
        averages, differences: as from `training_seeds`.
        seeds: the training seeds.
    """
    quantized, compared = averages[averages["kind"] == "quantized"], differences[differences["against"] == REFERENCE]
    style = styles(quantized["quantizer"])
    colours = {FULL_PRECISION: REFERENCE_COLOUR}
    colours |= {label_of(row): style[row["quantizer"]].colour for row in quantized.to_dict("records")}
    place = {name: number for number, name in enumerate(colours)}
    panels = list(dict.fromkeys(quantized[["merge", "bits"]].itertuples(index=False, name=None)))
    with matplotlib.rc_context(RC):
        figure, axes = grid(3, len(panels), max(2.6, INCHES_PER_MODEL * len(place)), PANEL_HEIGHT, "row")
        for (above, middle, below), (merge, bits) in zip(axes.T, panels, strict=True):
            full = averages[(averages["kind"] == "merged") & (averages["merge"] == merge)]
            own, other = (rows[(rows["merge"] == merge) & (rows["bits"] == bits)] for rows in (quantized, compared))
            for row in pd.concat([full, own]).to_dict("records"):
                draw_model(above, place[label_of(row)], row, "average", seeds, colours[label_of(row)])
                draw_deviations(below, place[label_of(row)], row, filled=True)
            for row in other.to_dict("records"):
                draw_model(middle, place[label_of(row)], row, "difference", seeds, colours[label_of(row)])
                draw_deviations(below, place[label_of(row)], row, filled=False)
            middle.axhline(0, **baseline_look())
            above.set_title(f"{merge} at {bits} bits")
            for axis in (above, middle, below):
                axis.set_xticks(list(place.values()), list(place) if axis is below else [], rotation=25, ha="right")
                axis.set_xlim(-0.6, len(place) - 0.4)
                axis.grid(visible=False, axis="x")
        axes[0, 0].set_ylabel("average over tasks (%)")
        axes[1, 0].set_ylabel(f"difference to {compared['reference'].iloc[0]}\n(points)")
        axes[2, 0].set_ylabel("standard deviation\nof one run (points)")
        finish(figure, handles(seeds), caption(suite))
    return figure


def label_of(row: Mapping[str, Any]) -> str:
    """What a model is called on the axis."""
    return method_label(row["quantizer"], row["group_size"])


def draw_model(axis: Axes, x: float, row: Mapping[str, Any], mean: str, seeds: Sequence[int], colour: str) -> None:
    """A model's mean with its interval, hollow where a difference is not clear, and the value of each training seed."""
    errors = whiskers(*(np.array([row[key]]) for key in ("ci_low", mean, "ci_high")))
    face = "white" if row.get("p_holm", 0) >= LEVEL else REFERENCE_COLOUR
    look = {"color": REFERENCE_COLOUR, "marker": "D", "markersize": 4.5, "markerfacecolor": face, "elinewidth": 0.9}
    axis.errorbar(x + MEAN_AT, 100 * row[mean], errors, **look)
    places = x + np.linspace(*SEEDS_BETWEEN, len(seeds))
    axis.plot(places, [100 * row[name] for name in seed_columns(seeds)], color=colour, marker="o", markersize=4, linewidth=0.8)


def draw_deviations(axis: Axes, x: float, row: Mapping[str, Any], *, filled: bool) -> None:
    """Bars of a model's components: filled those of its average, outlined those of its difference to the reference."""
    for number, name in enumerate(COMPONENTS):
        look = (
            {"color": COMPONENT_COLOURS[name]} if filled else {"fill": False, "edgecolor": REFERENCE_COLOUR, "linewidth": 0.9}
        )
        axis.bar(x + (number - 1) * BAR, 100 * row[f"sd_{name}"], width=BAR, zorder=2 + (not filled), **look)


def handles(seeds: Sequence[int]) -> list[Artist]:
    """Legend entries."""
    points = {"color": "#777777", "marker": "o", "markersize": 4, "linewidth": 0.8}
    return [
        Line2D([], [], color=REFERENCE_COLOUR, marker="D", markersize=4.5, label="mean, 95 % interval"),
        Line2D([], [], label=f"training seeds {', '.join(map(str, seeds))} from left to right", **points),
        *(Patch(color=COMPONENT_COLOURS[name], label=f"deviation from the {COMPONENT_NAMES[name]}") for name in COMPONENTS),
        Patch(fill=False, edgecolor=REFERENCE_COLOUR, label="deviation of the difference"),
    ]


def caption(suite: str) -> str:
    """What the figure shows."""
    return (
        f"Suite {suite}, base and experts trained anew with each seed. Intervals cover other training seeds, calibration seeds "
        "and test examples. Hollow: no clear difference (p of 0.05 or more after Holm's correction). Bars: what each source "
        "adds to the result of one run, filled of its average, outlined of its paired difference; no bar: not above zero."
    )
