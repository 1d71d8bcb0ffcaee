"""The plot of the two deviations by layer, from the quantized models' layer records."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pmqbench.errors import DataError
from pmqbench.reporting.plot_data import PlotData
from pmqbench.reporting.style import MAX_WIDTH, RC, REFERENCE_COLOUR, finish, grid, line_handles, methods, plain_log, styles

QUANTIZATION, MERGING, MERGED = "quantization deviation", "merging deviation", "merging deviation of the merged weights"
Y_LABELS = {
    QUANTIZATION: "quantization deviation\n(share of output energy)",
    MERGING: "merging deviation\n(share of output energy)",
}
MERGED_LOOK = {"color": REFERENCE_COLOUR, "linestyle": ":", "linewidth": 1.4}
MANY_BLOCKS = 12
MANY_LAYERS = 40  # above this, markers run into each other


def draw(data: PlotData) -> Figure:
    """Quantization deviation (above) and merging deviation (below) over the layers; one column per merge, one line per method.

    Raises:
        DataError: no layer has that many bits.
    """
    layers, bits = data.layers, data.bits
    chosen = layers[layers["bits"] == bits]
    if chosen.empty:
        raise DataError(f"no layer with {bits} bits to plot.", remedy="Choose a bit width of the suite.")
    table = methods(chosen.assign(**deviations(chosen))).dropna(subset=[QUANTIZATION])
    merges = list(dict.fromkeys(chosen["merge"]))
    with matplotlib.rc_context(RC):
        figure, axes = grid(2, len(merges), min(4.6, MAX_WIDTH / len(merges)), 3.2, "row")
        for column, merge in enumerate(merges):
            rows = table[table["merge"] == merge]
            for axis, deviation in zip(axes[:, column], (QUANTIZATION, MERGING), strict=True):
                draw_lines(axis, rows, deviation)
                axis.set_yscale("log")
                mark_blocks(axis, chosen)
                axis.set_title(f"merge: {merge}")
                axis.set_ylabel(Y_LABELS[deviation] if column == 0 else "")
            axes[1, column].set_xlabel("layers in forward order, by block")
        for axis in axes[:, 0]:  # the limits that a row shares are final now
            plain_log(axis.yaxis)
        reference = Line2D([], [], label=f"merged weights, not rounded (inputs as with {first_label(table)})", **MERGED_LOOK)
        handles = [*line_handles(table), *([] if table.empty else [reference])]
        finish(figure, handles, caption(chosen, bits))
    return figure


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
    style = styles(rows["quantizer"])
    for _, group in rows.groupby("label", sort=False):
        line = group.groupby("index")[deviation].mean()
        look = style[group["quantizer"].iloc[0]].line(group["grouped"].iloc[0]) | {"markersize": 4}
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


def caption(layers: pd.DataFrame, bits: int) -> str:
    """What the two deviations are, and the order of layers within a block."""
    first = layers[layers["block"] == layers["block"].iloc[0]].sort_values("index")
    order = ", ".join(dict.fromkeys(str(name).rsplit(".", 1)[-1] for name in first["layer"]))
    return (
        f"Suite {layers['suite'].iloc[0]}, {bits} bits, means over calibration seeds, logarithmic. Quantization deviation: "
        "E|Qx - W*x|² / E|Wx|², where W* is what is rounded, W the merged weights, x the layer's inputs. Merging deviation: "
        "E|Qx - W_t x|² / E|Wx|², mean over tasks t, where W_t is the expert's. Methods that see no data (RTN) "
        f"and refined models have none. Within a block: {order}."
    )
