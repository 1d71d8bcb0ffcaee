"""Averages by the time that it took to make the models, and the Pareto front."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pmqbench.reporting.pareto import draw_panels
from pmqbench.reporting.plot_data import INTERVALS, PlotData
from pmqbench.reporting.style import methods
from pmqbench.reporting.verdicts import FULL_PRECISION

COST = "calibration_seconds"
CHOSEN = "*"


def draw(data: PlotData) -> Figure:
    """Average against seconds; one panel per bit width, all merges in each; the front (better than all faster) is labelled.

    Merges at full precision are in every panel: a quantized model takes its merge's time and its own.
    """
    summary = data.summary
    quantized = methods(summary.entries)
    merged = summary.entries[summary.entries["kind"] == "merged"].assign(label=FULL_PRECISION, grouped=0)
    names = quantized["merge"] + ", " + quantized["label"]
    quantized, merged = quantized.assign(name=names), merged.assign(name=merged["merge"])
    clouds = {}
    for bits in sorted(quantized["bits"].unique(), reverse=True):
        rows = pd.concat([quantized[quantized["bits"] == bits], merged])
        clouds[f"{bits} bits"] = rows.assign(name=rows["name"] + rows["chosen"].ne("").map({True: CHOSEN, False: ""}))
    caption = (
        f"Suite {summary.suite}: average over {len(summary.tasks)} tasks against the seconds it took to make a model from the "
        "experts' checkpoints (merging, quantizing, refining, and choosing options), mean over seeds; without training experts "
        f"and evaluating. {CHOSEN}: options chosen by validation labels. {INTERVALS}"
    )
    return draw_panels(clouds, quantized, COST, "time to make the model (s)", caption)
