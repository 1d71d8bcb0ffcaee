"""The look of all plots: one fixed colour and marker per quantizer, captions, legends, and saving.

The first six colours are those of Okabe and Ito (2008), "Color Universal Design", without black (references) and yellow (too
light for lines); six of Paul Tol's "muted" scheme follow. Both are safe for colour-blind readers. Markers differ too, and
quantizers beyond the twelfth reuse colours with other markers, so no two look the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pmqbench.files import atomic_path
from pmqbench.reporting.entries import EXPERTS, PRETRAINED
from pmqbench.reporting.verdicts import FULL_PRECISION

# Quantizers most suites share look the same in all of them; others take the free styles in alphabetical order.
WELL_KNOWN = ("rtn", "gptq", "awq", "epmq", "epmq-expert")
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
COLOURS += ("#332288", "#999933", "#882255", "#44AA99", "#CC6677", "#117733")
MARKERS = "osD^vPX<>phd"
LINES = ("-", "--", ":", "-.")
REFERENCE_COLOUR = "#000000"
STAR = {"linestyle": "none", "marker": "*", "color": REFERENCE_COLOUR, "markersize": 10}  # a merge at full precision
REFERENCE_LINES = {FULL_PRECISION: "-", EXPERTS: "--", PRETRAINED: ":"}
RC = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "pmqbench",
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and edited
    "savefig.dpi": 150,
}
MAX_WIDTH = 18.0  # inches of a figure
INCHES_PER_CHARACTER = 0.068  # of a caption's 9-point letters


@dataclass(frozen=True)
class Style:
    """How a quantizer is drawn."""

    colour: str
    marker: str

    def line(self, grouped: int) -> dict[str, object]:
        """Line2D arguments; `grouped` is 0 for per-channel, 1, 2, ... for the suite's group sizes."""
        face = "white" if grouped else self.colour
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": LINES[grouped % len(LINES)],
            "markerfacecolor": face,
            "markeredgecolor": self.colour,
            "markersize": 5.5,
            "linewidth": 1.3,
        }

    def point(self, grouped: int) -> dict[str, object]:
        """Line2D arguments of a point that no line joins."""
        return self.line(grouped) | {"linestyle": "none"}


def styles(quantizers: Iterable[str]) -> dict[str, Style]:
    """Quantizer -> its style."""
    others = sorted(set(quantizers) - set(WELL_KNOWN))
    return {
        name: Style(COLOURS[place % len(COLOURS)], MARKERS[(place + place // len(COLOURS)) % len(MARKERS)])
        for place, name in enumerate((*WELL_KNOWN, *others))
    }


def method_label(quantizer: str, group_size: object) -> str:
    """A quantizer's name, with its group size if it has one."""
    return quantizer if pd.isna(group_size) else f"{quantizer}, g{group_size}"


def methods(entries: pd.DataFrame) -> pd.DataFrame:
    """The quantized entries with "label", "style" and "grouped": 0 per channel, else 1, 2, ... by rising group size.

    Styles depend on which quantizers there are, so take rows out of this table, not before.
    """
    quantized = entries[entries["kind"] == "quantized"] if "kind" in entries else entries
    sizes = sorted(quantized["group_size"].dropna().unique())
    grouped = [0 if pd.isna(size) else 1 + sizes.index(size) for size in quantized["group_size"]]
    labels = [method_label(*pair) for pair in zip(quantized["quantizer"], quantized["group_size"], strict=True)]
    style = quantized["quantizer"].map(styles(quantized["quantizer"]))
    return quantized.assign(label=labels, grouped=grouped, style=style)


def legend_rows(quantized: pd.DataFrame) -> list[tuple[str, Style, int]]:
    """(label, style, grouped) of every method in `methods`, once, in order."""
    unique = quantized.drop_duplicates("label")[["label", "style", "grouped"]]
    return list(unique.itertuples(index=False, name=None))


def line_handles(quantized: pd.DataFrame, *, joined: bool = True) -> list[Artist]:
    """Legend entries of a line plot, or of one whose points are not joined."""
    return [
        Line2D([], [], label=label, **(style.line(grouped) if joined else style.point(grouped)))
        for label, style, grouped in legend_rows(quantized)
    ]


def reference_handles(names: Iterable[str]) -> list[Artist]:
    """Legend entries of reference lines."""
    look = {"color": REFERENCE_COLOUR, "linewidth": 1.2}
    return [Line2D([], [], linestyle=REFERENCE_LINES[name], label=name, **look) for name in names]


def grid(
    rows: int, columns: int, width: float, height: float, share: str, width_ratios: Sequence[float] | None = None
) -> tuple[Figure, np.ndarray]:
    """A figure of panels of (on average) `width` x `height` inches; returns it and its (rows, columns) axes.

    Y is shared by "row" or "all".
    """
    figure = Figure(figsize=(max(columns * width, 6.5), rows * height + 1.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share, width_ratios=width_ratios)
    for axis in axes.flat:
        axis.tick_params(labelleft=True)
    return figure, axes


def panels(count: int, width: float, height: float, *, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, at most `columns` side by side, all with one y axis; returns it and its axes."""
    columns = even_columns(count, min(columns, max(1, int(MAX_WIDTH / width))))
    figure, axes = grid(-(-count // columns), columns, width, height, "all")
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def sentence(text: str) -> Figure:
    """A figure that says why it shows nothing."""
    figure = Figure(figsize=(6.5, 1.0))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def finish(figure: Figure, handles: Sequence[Artist], caption: str) -> None:
    """Puts the legend above the panels and the caption below them."""
    width = figure.get_figwidth()
    widest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = even_columns(len(handles), int(width / (0.075 * widest + 0.65)))
    figure.legend(handles=list(handles), loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
    text = textwrap.fill(caption, int((width - 0.3) / INCHES_PER_CHARACTER))
    figure.supxlabel(text, x=0.01, ha="left", fontsize=9, color="#444444")


def even_columns(count: int, most: int) -> int:
    """How many columns, at most `most`, give `count` entries as few rows as they need, as full as that can be."""
    rows = -(-count // max(1, most))
    return max(1, -(-count // max(1, rows)))


def plain_log(axis: Axis) -> None:
    """Labels a logarithmic axis, whose limits are final, with plain numbers: the finer, the fewer decades it spans."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    steps = (1, 1.5, 2, 3, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 2.5 else (1,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def save(figure: Figure, *paths: str | Path) -> None:
    """Saves a figure once per path, the suffix (.svg, .png) being the format; the same figure gives the same bytes.

    An SVG says by its title what it shows, in the words of its file's name, and repeats its caption as the description.
    """
    with matplotlib.rc_context(RC):
        for path in paths:
            about = {"Title": Path(path).stem.replace("_", " "), "Description": figure.get_supxlabel().replace("\n", " ")}
            undated = {"Date": None} if Path(path).suffix == ".svg" else {}
            with atomic_path(path) as temporary:
                figure.savefig(temporary, metadata=about | undated)
