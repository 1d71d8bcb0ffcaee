"""The plot of the two deviations by layer, from the quantized models' layer records."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pmqbench.reporting.plot_data import PlotData, compared_merges, merges_left_out
from pmqbench.reporting.style import (
    MAX_WIDTH,
    RC,
    REFERENCE_COLOUR,
    finish,
    grid,
    line_handles,
    methods,
    plain_log,
    sentence,
)

QUANTIZATION, MERGING, MERGED = "quantization deviation", "merging deviation", "merging deviation of the merged weights"
Y_LABELS = {
    QUANTIZATION: "quantization deviation\n(share of output energy)",
    MERGING: "merging deviation\n(share of output energy)",
}
MERGED_LOOK = {"color": REFERENCE_COLOUR, "linestyle": ":", "linewidth": 1.4}
NARROWEST = 2.6  # inches of a panel
OUTLIERS, OUTLYING, ROOM = 0.02, 2, 1.15  # share of layers, how far below it one may be, and room below
MANY_BLOCKS = 12
MANY_LAYERS = 40  # above this, markers run into each other


def draw(data: PlotData) -> Figure:
    """Both deviations over the layers: a row per deviation and bit width, a column per merge, a line per method."""
    layers, quantized = data.layers, methods(data.summary.entries)
    merges = compared_merges(quantized)
    table = methods(layers.assign(**deviations(layers))).dropna(subset=[QUANTIZATION])
    table = table[table["merge"].isin(merges)]
    kinds = [
        (bits, deviation)
        for deviation in (QUANTIZATION, MERGING)
        for bits in sorted(table["bits"][table[deviation] > 0].unique(), reverse=True)
    ]
    if not kinds:
        return sentence(f"Suite {data.summary.suite}: no layer was quantized with data, so that none has deviations.")
    with matplotlib.rc_context(RC):
        figure, axes = grid(len(kinds), len(merges), max(NARROWEST, min(4.6, MAX_WIDTH / len(merges))), 2.8, "row")
        for line, (bits, deviation) in zip(axes, kinds, strict=True):
            drawn, width = [], table[table["bits"] == bits]
            for axis, merge in zip(line, merges, strict=True):
                rows = width[width["merge"] == merge]
                if not (rows[deviation] > 0).any():  # a logarithmic axis has no place for 0
                    axis.remove()
                    continue
                draw_lines(axis, rows, deviation)
                axis.set_yscale("log")
                mark_blocks(axis, layers)
                axis.set(title=f"merge: {merge}, {bits} bits", xlabel="layers in forward order, by block")
                drawn.append(axis)
            drawn[0].set_ylabel(Y_LABELS[deviation])
            drawn[0].set_ylim(bottom=axis_bottom(width[[deviation, MERGED] if deviation == MERGING else [deviation]]))
            plain_log(drawn[0].yaxis)  # the limits that a row shares are final now
        reference = Line2D([], [], label=f"merged weights, not rounded (inputs as with {first_label(table)})", **MERGED_LOOK)
        finish(figure, [*line_handles(table), reference], caption(layers) + merges_left_out(quantized))
    return figure


def axis_bottom(table: pd.DataFrame) -> float:
    """Where a logarithmic axis of these values begins, so that single ones far below all others do not squeeze them."""
    values = table.stack()
    values = values[values > 0]
    return max(values.min(), values.quantile(OUTLIERS) / OUTLYING) / ROOM


def deviations(layers: pd.DataFrame) -> dict[str, pd.Series]:
    """QUANTIZATION, and MERGING and MERGED as means over tasks: shares of the merged layer's output energy, NaN if unknown."""
    empty = pd.Series(np.nan, layers.index)
    tasks = [name.split(".")[1] for name in layers.columns if name.startswith("merging.") and name.endswith(".scale")]

    def mean(which: str) -> pd.Series:
        shares = [layers[f"merging.{task}.{which}"] / layers[f"merging.{task}.scale"] for task in tasks]
        return pd.concat(shares, axis=1).mean(axis=1) if shares else empty

    return {QUANTIZATION: layers.get("quantization.relative", empty), MERGING: mean("final"), MERGED: mean("merged")}


def draw_lines(axis: Axes, rows: pd.DataFrame, deviation: str) -> None:
    """One line per method, mean over seeds; with the merging deviation also what the merged weights themselves have."""
    for _, group in rows.groupby("label", sort=False):
        line = group.groupby("index")[deviation].mean()
        look = group["style"].iloc[0].line(group["grouped"].iloc[0]) | {"markersize": 4}
        axis.plot(line.index, line, **look | ({"marker": ""} if len(line) > MANY_LAYERS else {}))
    if deviation == MERGING and not rows.empty:
        line = rows[rows["label"] == first_label(rows)].groupby("index")[MERGED].mean()
        axis.plot(line.index, line, **MERGED_LOOK)


def first_label(rows: pd.DataFrame) -> str:
    """The first method's label, in the suite's order."""
    return "" if rows.empty else str(rows["label"].iloc[0])


def mark_blocks(axis: Axes, layers: pd.DataFrame) -> None:
    """A grid line and the block's number where each block begins."""
    begins = layers.groupby("block", sort=False)["index"].min().sort_values()
    shown = begins.iloc[:: -(-len(begins) // MANY_BLOCKS)]
    axis.set_xticks(shown, [str(block).rsplit(".", 1)[-1] for block in shown.index])
    axis.set_xlim(-0.7, layers["index"].max() + 0.7)


def caption(layers: pd.DataFrame) -> str:
    """What the two deviations are, and the order of layers within a block."""
    first = layers[layers["block"] == layers["block"].iloc[0]].sort_values("index")
    order = ", ".join(dict.fromkeys(str(name).rsplit(".", 1)[-1] for name in first["layer"]))
    return (
        f"Suite {layers['suite'].iloc[0]}, means over calibration seeds, logarithmic. Quantization deviation: "
        "E|Qx - W*x|² / E|Wx|², where W* is what is rounded, W the merged weights, x the layer's inputs. Merging deviation: "
        "E|Qx - W_t x|² / E|Wx|², mean over tasks t, where W_t is the expert's. Methods that see no data (RTN) "
        f"and refined models have none. Lines may leave a panel below. Within a block: {order}."
    )
