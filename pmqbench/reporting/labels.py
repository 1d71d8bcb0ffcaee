"""Labels in a column left of the data, each joined to its point: above and left of a Pareto front nothing else is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

INCHES_PER_CHARACTER = 0.068  # of 8-point letters, generously
LINE_INCHES = 0.14
PADDING = 0.03  # of the axes' width


def column_share(texts: Sequence[str], inches: float) -> float:
    """Share of an axes `inches` wide that a column of labels needs."""
    return PADDING + max(map(len, texts)) * INCHES_PER_CHARACTER / inches


def label_column(axis: Axes, x: Sequence[float], y: Sequence[float], texts: Sequence[str], inches: float) -> None:
    """Writes labels at the left edge, at their points' height as far as they do not overlap.

    Args:
        axis: where to; its limits are final.
        x, y: the points, in data units, y rising.
        texts: their labels.
        inches: height of the axes.
    """
    low, high = axis.get_ylim()
    heights = spread(y, LINE_INCHES * (high - low) / inches, high)
    for point, height, text in zip(zip(x, y, strict=True), heights, texts, strict=True):
        axis.annotate(
            text,
            point,
            (PADDING / 3, height),
            textcoords=axis.get_yaxis_transform(),
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4},
        )


def spread(wanted: Sequence[float], gap: float, top: float) -> list[float]:
    """Rising positions near rising `wanted`, at least `gap` apart and at least half a gap below `top`."""
    placed: list[float] = []
    for position in wanted:
        placed.append(max(position, placed[-1] + gap) if placed else position)
    limit = top - gap / 2
    for place in reversed(range(len(placed))):
        placed[place] = min(placed[place], limit)
        limit = placed[place] - gap
    return placed
