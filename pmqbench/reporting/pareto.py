"""Panels of averages against something that models cost, with the Pareto front: what is better than all that costs less."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pmqbench.reporting.labels import column_share, label_column
from pmqbench.reporting.plot_data import whiskers
from pmqbench.reporting.style import RC, STAR, finish, line_handles, panels, plain_log
from pmqbench.reporting.verdicts import FULL_PRECISION

FRONT_COLOUR = "#999999"
PANEL = (4.8, 4.4)
AXES_INCHES = (4.0, 3.6)  # of a panel, without its labels
CLOSE, APART, WIDEST = 0.005, 0.022, 0.1  # shares of a panel's span: one cost, the distance of its points, and of all of them
MANY = 40  # models of a panel whose whiskers can no longer be told apart
MINIMAL_SPAN = 0.1  # of the logarithm: a panel of equal costs has an axis too


def draw_panels(
    clouds: Mapping[str, pd.DataFrame], quantized: pd.DataFrame, cost: str, cost_label: str, caption: str
) -> Figure:
    """One panel per cloud of points: averages with whiskers against a cost, and the front, whose names stand on the left.

    All panels have the same axes.

    Args:
        clouds: title -> entries with "label" and "grouped" (as from `style.methods`; FULL_PRECISION and 0 for a merge) and
            "name", what the front calls them, "" for nothing.
        quantized: all methods, as from `style.methods`, for colours and legend.
        cost: column of the entries, above zero.
        cost_label: of the x axes, which are logarithmic.
        caption: below.
    """
    clouds = {title: rows.assign(place=beside(rows, cost)) for title, rows in clouds.items()}
    fronts = {title: pareto_front(rows, cost) for title, rows in clouds.items()}
    named = {title: front[front["name"] != ""] for title, front in fronts.items()}
    costs = pd.concat([rows[cost] for rows in clouds.values()])
    labels = [name for front in named.values() for name in front["name"]]
    with matplotlib.rc_context(RC):
        figure, axes = panels(len(clouds), *PANEL)
        for axis, (title, rows) in zip(axes, clouds.items(), strict=True):
            front = fronts[title]
            for number, row in rows.iterrows():
                look = STAR if row["label"] == FULL_PRECISION else row["style"].point(row["grouped"])
                errors = whiskers(*(np.array([row[key]]) for key in ("ci_low", "average", "ci_high")))
                with_whisker = len(rows) <= MANY or number in front.index
                axis.errorbar(row["place"], 100 * row["average"], errors if with_whisker else None, elinewidth=0.6, **look)
            axis.step(front["place"], 100 * front["average"], where="post", color=FRONT_COLOUR, linewidth=1.0, zorder=1)
            axis.set(title=title, xlabel=f"{cost_label}, logarithmic", ylabel="average over tasks (%)")
            cost_axis(axis, costs, column_share(labels, AXES_INCHES[0]))
        for axis, front in zip(axes, named.values(), strict=True):  # the shared limits are final now
            label_front(axis, front)
        handles = [*line_handles(quantized, joined=False), Line2D([], [], label=FULL_PRECISION, **STAR)]
        handles += [Line2D([], [], color=FRONT_COLOUR, label="Pareto front (labelled)")]
        many = max(map(len, clouds.values())) > MANY
        finish(
            figure, handles, caption + (f" In panels of more than {MANY} models only the front has whiskers." if many else "")
        )
    return figure


def pareto_front(rows: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The rows that are better than all cheaper ones, by cost."""
    rows = rows.sort_values([cost, "average"], ascending=[True, False])
    return rows[rows["average"] > rows["average"].cummax().shift(fill_value=-np.inf)]


def beside(rows: pd.DataFrame, cost: str) -> pd.Series:
    """Where each row stands on the cost axis: rows of one cost beside each other, by average, so that whiskers are apart."""
    logs = np.log(rows[cost])
    span = max(float(logs.max() - logs.min()), MINIMAL_SPAN)
    ordered = logs.sort_values()
    cluster = (ordered.diff() > CLOSE * span).cumsum().reindex(rows.index)
    number = rows.groupby(cluster)["average"].rank(method="first") - 1
    count = rows.groupby(cluster)["average"].transform("size")
    gap = np.minimum(APART, WIDEST / count) * span
    centre = logs.groupby(cluster).transform("mean").where(count > 1, logs)
    return np.exp(centre + (number - (count - 1) / 2) * gap)


def label_front(axis: Axes, front: pd.DataFrame) -> None:
    """Writes the names of a front's points on the left."""
    axis.set_ylim(axis.get_ylim())
    label_column(axis, front["place"], 100 * front["average"], list(front["name"]), AXES_INCHES[1])


def cost_axis(axis: Axes, costs: pd.Series, left: float) -> None:
    """A logarithmic axis with plain numbers for these costs, the same for all panels, whose share `left` is free for labels."""
    low, high = np.log(costs.min()), np.log(costs.max())
    margin = 0.05 * max(high - low, MINIMAL_SPAN)
    axis.set_xscale("log")
    axis.set_xlim(np.exp(high + margin - (high - low + 2 * margin) / (1 - left)), np.exp(high + margin))
    plain_log(axis.xaxis)
