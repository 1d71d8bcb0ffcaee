"""How models stand among each other: ties of ranks, and what describes a ranking without deciding it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from pmqbench.reporting.comparisons import every_pair
from pmqbench.reporting.statistics import Summary, ranked
from pmqbench.reporting.verdicts import LEVEL


def standing(summary: Summary) -> pd.DataFrame:
    """Figures of the ranked entries, by entry number, best first.

    Returns:
        tied_rank: 1 and the number of entries that are better by the paired test, Holm-corrected over all pairs.
        win_rate: share of comparisons with another entry on one task that are won, a tie being half a win.
        average_rank: mean over tasks of the rank there; equals share the mean of their ranks.
        improvability: mean over tasks of the share of errors that the best entry of the task does not make.
    """
    order = ranked(summary.entries)
    ranks = rankdata(-summary.values[order], axis=0)
    errors = 1 - summary.values[order]
    avoidable = (errors - errors.min(axis=0)) / np.where(errors > 0, errors, 1)
    return pd.DataFrame(
        {
            "tied_rank": tied_ranks(summary, order),
            "win_rate": ((len(order) - ranks) / max(len(order) - 1, 1)).mean(axis=1),
            "average_rank": ranks.mean(axis=1),
            "improvability": avoidable.mean(axis=1),
        },
        index=order,
    )


def tied_ranks(summary: Summary, order: np.ndarray) -> np.ndarray:
    """1 and, for each of these entries (best first), how many of them are better after the correction over all pairs."""
    _, lower, p_holm = every_pair(summary, order)
    return 1 + np.bincount(lower[p_holm < LEVEL], minlength=len(order))


def worst_tasks(summary: Summary) -> pd.DataFrame:
    """Of each entry, the task on which it keeps least of the expert's value (`worst_task`), and that share (`worst`).

    As `normalised`, unknown where an expert is not above zero: NaN and "".
    """
    expert = summary.values[summary.entries["kind"].eq("expert").to_numpy()]
    if (expert <= 0).any():
        return pd.DataFrame({"worst": np.nan, "worst_task": ""}, index=summary.entries.index)
    shares = summary.values / expert
    return pd.DataFrame({"worst": shares.min(axis=1), "worst_task": np.array(summary.tasks)[shares.argmin(axis=1)]})
