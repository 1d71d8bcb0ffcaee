"""What the columns of a leaderboard mean, as its page explains them; a column without a definition is shown all the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column of the page.

    Attributes:
        name: in leaderboard.csv.
        definition: one sentence; "" for none.
        ascending: the smaller, the better, so sorting begins with the smallest.
        brief: shown also where there is little room.
        extra: shown once it is asked for.
        task: a task's metric.
    """

    name: str
    definition: str = ""
    ascending: bool = False
    brief: bool = False
    extra: bool = False
    task: bool = False


DEFINED = (
    Column("suite", "Suite, and target if it is not the default one; ranks count within it.", ascending=True, brief=True),
    Column(
        "rank",
        "Rank of the average among all models, equal averages sharing one; =: not clear that the row above is better.",
        ascending=True,
        brief=True,
    ),
    Column("merge", "How the experts were merged, as the config calls it.", ascending=True, brief=True),
    Column(
        "quantizer",
        "How the merged model was quantized, as the config calls it; full precision is the merged model itself.",
        ascending=True,
        brief=True,
    ),
    Column("bits", "Bits per weight of the quantized layers.", ascending=True, brief=True),
    Column("group_size", "Inputs per scale; channel: one scale per output channel.", ascending=True),
    Column(
        "origin",
        "here: computed in this checkout; confirmed: so too, and a result sent in says the same; submitted: sent in, with code "
        "that is part of this project; not regenerated: sent in without its code, so nobody can compute it again.",
        ascending=True,
        brief=True,
    ),
    Column("submitted_by", "Who sent the result in.", ascending=True),
    Column("link", "Where more about that is to be found.", ascending=True, extra=True),
    Column("entry", "The file that was sent in: outcomes, recipe, provenance.", ascending=True, extra=True),
    Column("seeds", "Calibration seeds; 1 where no seed enters.", extra=True),
    Column("average", "Unweighted mean over tasks, in percent, then over seeds; in grey its 95 % interval.", brief=True),
    Column("ci_low", "Lower end of the 95 % interval: bootstrap over test examples and calibration seeds."),
    Column("ci_high", "Upper end of the 95 % interval: bootstrap over test examples and calibration seeds."),
    Column("normalised", "Mean over tasks of the value divided by the value of that task's expert, in percent."),
    Column("size_mb", "What the weights take in storage, 10^6 bytes; of a quantized model the exported file.", True, True),
    Column("compression", "How many times smaller than the pre-trained base that is.", extra=True),
    Column(
        "calibration_seconds",
        "Wall-clock seconds from the experts' checkpoints to the model, choices of options included; mean over seeds.",
        ascending=True,
    ),
    Column("samples", "Training samples of each task that took, 0 where none was looked at.", ascending=True, extra=True),
    Column("chosen", "Options chosen by the labels of the validation splits; -: no validation label was used.", ascending=True),
    Column("standard_error", "Standard error of the average, from test examples and seeds.", ascending=True, extra=True),
    Column(
        "tied_rank",
        "One more than the number of models that are clearly better, by p-values corrected over all pairs: stricter than =.",
        ascending=True,
    ),
    Column("above_p", "p-value of the difference to the row above, corrected by Holm.", ascending=True, extra=True),
    Column(
        "to_reference", "Difference, in points, to the reference quantizer under the same merge, bits and groups.", extra=True
    ),
    Column("to_reference_p", "p-value of that difference, corrected by Holm over the column.", ascending=True, extra=True),
    Column("to_best", "Difference, in points, to the model of rank 1.", extra=True),
    Column("to_best_p", "p-value of that difference, corrected by Holm over all pairs.", ascending=True, extra=True),
    Column("worst", "The least share of its expert's value that is kept on any task, in percent."),
    Column("worst_task", "The task of that.", ascending=True),
    Column(
        "win_rate", "Share of comparisons with another model on one task that are won, in percent; description.", extra=True
    ),
    Column("average_rank", "Mean rank over tasks; description.", ascending=True, extra=True),
    Column("improvability", "Mean share of errors that a task's best model does not make; description.", True, extra=True),
)


def columns(names: Sequence[str], tasks: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The columns of a leaderboard with these names, in its order, as data of the page."""
    known = {column.name: column for column in DEFINED}
    known |= {task: Column(task, f"Metric of the task {task}, in percent, mean over seeds.", task=True) for task in tasks}
    return [asdict(known.get(name, Column(name))) for name in names]
