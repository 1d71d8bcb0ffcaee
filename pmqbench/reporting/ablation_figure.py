"""The figure of an ablation: averages above, paired differences to the baseline below, a column a merge and bit width."""

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

from pmqbench.reporting.ablations import BASELINE, UNCLEAR
from pmqbench.reporting.plot_data import whiskers
from pmqbench.reporting.style import RC, REFERENCE_COLOUR, REFERENCE_LINES, finish, grid, styles
from pmqbench.reporting.verdicts import FULL_PRECISION

PANEL_HEIGHT = 2.5
INCHES_PER_CHARACTER = 0.1  # of a label, with the space to the next
DECADES = 1.0  # values that span as much stand on a logarithmic axis
MARGIN = 0.1  # of the axis beyond its outer points, so that none stands on the frame
SHIFT = 0.16  # of the least distance between points, from one series to the next


def draw_ablation(suite: str, ablation: Mapping[str, Any], rows: pd.DataFrame) -> Figure:
    """One question's figure.

    Args:
        suite: the suite's name.
        ablation: as from `Ablation.describe`.
        rows: as from `judge`.
    """
    panels, series = list(dict.fromkeys(rows["panel"])), list(dict.fromkeys(rows["series"]))
    place = dict(zip(ablation["labels"], places(ablation["labels"]), strict=True))
    joined = {} if numbers(ablation["labels"]) else {"linestyle": "none"}  # no line from one word to another
    style = {name: look.line(0) | joined for name, look in styles(series).items()}
    step = SHIFT * min(np.diff(sorted(place.values())))
    with matplotlib.rc_context(RC):
        figure, axes = grid(2, len(panels), width(ablation["labels"]), PANEL_HEIGHT, "row")
        for (above, below), panel in zip(axes.T, panels, strict=True):
            for number, name in enumerate(series):
                points = rows[(rows["panel"] == panel) & (rows["series"] == name)]
                x = points["label"].map(place).to_numpy() + (number - (len(series) - 1) / 2) * step
                draw_averages(above, x, points, style[name])
                if set(points["verdict"]) != {BASELINE}:
                    draw_differences(below, x, points, style[name])
            full = rows[rows["panel"] == panel].drop_duplicates("label")
            above.plot(full["label"].map(place), 100 * full["full_precision"], **reference_look())
            below.axhline(0, **baseline_look())
            if ablation["baseline"] is not None:
                for axis in (above, below):
                    axis.axvline(place[ablation["baseline"]], **baseline_look())
            above.set_title(panel)
            for axis in (above, below):
                axis.margins(x=MARGIN)
                axis.set_xticks(list(place.values()), list(place), **turned(ablation["labels"]))
            below.set_xlabel(ablation["vary"] or "variant")
        axes[0, 0].set_ylabel("average over tasks (%)")
        axes[1, 0].set_ylabel(f"difference to {ablation['against'] or ablation['baseline']}\n(points)")
        finish(figure, handles(series, style), caption(suite))
        figure.legends[0].set_title(ablation["question"], prop={"size": 12})
    return figure


def places(labels: Sequence[str]) -> list[float]:
    """Where labels stand on the axis: numbers at their values, or at their logarithms if these span a decade; others in a row.

    A zero among logarithms stands one step left of the least of them.
    """
    values = numbers(labels)
    if values is None:
        return [float(number) for number in range(len(labels))]
    positive = [value for value in values if value > 0]
    if min(values) < 0 or len(positive) < 2 or np.log10(max(positive) / min(positive)) < DECADES:
        return values
    logarithms = np.sort(np.log10(positive))
    zero = logarithms[0] - np.diff(logarithms).mean()
    return [float(np.log10(value)) if value > 0 else float(zero) for value in values]


def numbers(labels: Sequence[str]) -> list[float] | None:
    """The labels' values, or None if they are words."""
    try:
        return [float(label) for label in labels]
    except ValueError:
        return None


def width(labels: Sequence[str]) -> float:
    """Inches of a panel."""
    return min(6.0, max(2.9, 0.62 * len(labels)))


def turned(labels: Sequence[str]) -> dict[str, Any]:
    """Text arguments of labels that would not fit side by side."""
    crowded = INCHES_PER_CHARACTER * max(map(len, labels)) * len(labels) > width(labels)
    return {"rotation": 25, "ha": "right"} if crowded else {}


def draw_averages(axis: Axes, x: np.ndarray, points: pd.DataFrame, look: Mapping[str, Any]) -> None:
    """Averages with their intervals."""
    errors = whiskers(points["ci_low"], points["average"], points["ci_high"])
    axis.errorbar(x, 100 * points["average"], errors, elinewidth=0.9, **look)


def draw_differences(axis: Axes, x: np.ndarray, points: pd.DataFrame, look: Mapping[str, Any]) -> None:
    """Differences with their intervals, hollow where they are not clear."""
    errors = whiskers(points["difference_low"], points["difference"], points["difference_high"])
    middle = (100 * points["difference"]).to_numpy()
    plain = {key: value for key, value in look.items() if not key.startswith("marker")}
    axis.errorbar(x, middle, errors, elinewidth=0.9, **plain)
    clear = ~points["verdict"].isin([UNCLEAR, BASELINE]).to_numpy()
    for chosen, face in ((clear, look["color"]), (~clear, "white")):
        axis.plot(x[chosen], middle[chosen], **{**look, "linestyle": "none", "markerfacecolor": face}, zorder=3)


def reference_look() -> dict[str, Any]:
    """Line2D arguments of the merge at full precision."""
    return {"color": REFERENCE_COLOUR, "linestyle": REFERENCE_LINES[FULL_PRECISION], "linewidth": 1.2, "zorder": 1}


def baseline_look() -> dict[str, Any]:
    """Line2D arguments of what marks the baseline."""
    return {"color": "#777777", "linestyle": ":", "linewidth": 1.2, "zorder": 1}


def handles(series: Sequence[str], style: Mapping[str, Mapping[str, Any]]) -> list[Artist]:
    """Legend entries."""
    return [
        *(Line2D([], [], label=name, **style[name]) for name in series),
        Line2D([], [], label=f"merge at {FULL_PRECISION}", **reference_look()),
        Line2D([], [], label="baseline", **baseline_look()),
    ]


def caption(suite: str) -> str:
    """What the figure shows."""
    return (
        f"Suite {suite}. Whiskers are 95 % intervals over test examples and calibration seeds, below of the paired difference. "
        "Filled: a clear difference to the baseline; hollow: none."
    )
