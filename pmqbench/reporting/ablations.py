"""What ablations say: every point of a question beside the one it is compared with, and a sentence made from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pmqbench.errors import DataError
from pmqbench.files import write_text
from pmqbench.reporting.comparisons import compare_pairs
from pmqbench.reporting.statistics import Summary
from pmqbench.reporting.tables import group_labels, markdown_table, two_decimals, write_csv
from pmqbench.reporting.verdicts import BETTER, UNCLEAR, WORSE

BASELINE = "baseline"
KEY = ["merge", "quantizer", "bits", "group_size"]
PERCENT = ["average", "ci_low", "ci_high", "full_precision", "difference", "difference_low", "difference_high"]

HOW = """\
How to read this: averages over tasks and calibration seeds in percent with their 95 % intervals; differences in points to the
baseline, paired: both models see the same test examples and, where calibrated, share their seeds. "better" and "worse" are
differences with p < 0.05 after Holm's correction for all comparisons of the question, so an interval that just leaves out zero
may still be "no clear difference"."""


def judge(summary: Summary, ablation: Mapping[str, Any]) -> pd.DataFrame:
    """Every point of a question.

    Args:
        summary: of the report's records.
        ablation: as from `Ablation.describe`.

    Returns:
        A row a point, in its order: panel, series, label, KEY, the average and its interval, the average of the point's merge
        at full precision, the paired difference to what the point is compared with and its interval (all 0..1), and the
        verdict: BETTER, WORSE or UNCLEAR, all of a question corrected together, or BASELINE for a point that others are
        compared with.

    Raises:
        DataError: a point has no records.
    """
    points, entries = pd.DataFrame(ablation["points"]), summary.entries
    numbers = _numbers(points, entries)
    at = dict(zip(points[["panel", "series", "label"]].itertuples(index=False, name=None), numbers, strict=True))
    against, baseline = ablation["against"], ablation["baseline"]
    others = [at[panel, against or series, baseline or label] for panel, series, label in at]
    pairs = {row: pair for row, pair in enumerate(zip(numbers, others, strict=True)) if pair[0] != pair[1]}
    compared = compare_pairs(summary, BASELINE, list(pairs.values())).set_index(pd.Index(pairs))
    compared = compared[["difference", "ci_low", "ci_high", "verdict"]].reindex(points.index)
    compared.columns = ["difference", "difference_low", "difference_high", "verdict"]
    compared = compared.fillna({"verdict": BASELINE}).fillna(0.0)
    full = entries[entries["kind"] == "merged"].set_index("merge")["average"]
    own = entries.loc[numbers, ["average", "ci_low", "ci_high"]].reset_index(drop=True)
    return pd.concat([points, own, compared], axis=1).assign(full_precision=points["merge"].map(full))


def _numbers(points: pd.DataFrame, entries: pd.DataFrame) -> list[int]:
    """The number of each point's entry; DataError for a point without records."""
    places = {key: number for number, key in enumerate(_keys(entries))}
    for merge, quantizer, bits, group_size in _keys(points):
        if (merge, quantizer, bits, group_size) not in places:
            raise DataError("no records of a point.", where=f"{merge}, {quantizer}, {bits} bits", remedy="Evaluate it.")
    return [places[key] for key in _keys(points)]


def _keys(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(table[KEY].fillna({"group_size": 0}).itertuples(index=False, name=None))


def sentence(ablation: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """What the records say to a question.

    Args:
        ablation: as from `Ablation.describe`.
        rows: as from `judge`.

    Returns:
        For instance "Against 1, better: 0.1 (ta at 4 bits: +1.2). Worse: 0 (everywhere: -31.0 to -28.4). No clear difference:
        10 (wudi at 4 bits); intervals reach 1.3 points to either side." Several series have sentences each.
    """
    others = rows[rows["verdict"] != BASELINE]
    names = list(dict.fromkeys(others["series"]))
    to = ablation["against"] or ablation["baseline"]
    openings = {name: f"{name} against {to}" if ablation["against"] or len(names) > 1 else f"Against {to}" for name in names}
    return " ".join(f"{openings[name]}, {_answer(ablation['labels'], others[others['series'] == name])}" for name in names)


def _answer(labels: Sequence[str], rows: pd.DataFrame) -> str:
    """The labels of a series by verdict, with the panels and the size of clear differences."""
    panels = set(rows["panel"])
    said = []
    for verdict in (BETTER, WORSE, UNCLEAR):
        found = {label: rows[(rows["verdict"] == verdict) & (rows["label"] == label)] for label in labels}
        told = [_label(label, group, panels, verdict) for label, group in found.items() if not group.empty]
        said += [f"{verdict}: {'; '.join(told)}"] if told else []
    unclear = rows[rows["verdict"] == UNCLEAR]
    if not unclear.empty:
        reach = (unclear["difference_high"] - unclear["difference_low"]).median() / 2
        said[-1] += f"; intervals reach {100 * reach:.1f} points to either side"
    return ". ".join([said[0], *(part[0].upper() + part[1:] for part in said[1:])]) + "."


def _label(label: str, rows: pd.DataFrame, panels: set[str], verdict: str) -> str:
    """A label, where it has the verdict, and by how many points."""
    where = "everywhere" if set(rows["panel"]) == panels and len(panels) > 1 else ", ".join(rows["panel"])
    if verdict == UNCLEAR:
        return f"{label} ({where})"
    ends = dict.fromkeys(f"{100 * value:+z.1f}" for value in (rows["difference"].min(), rows["difference"].max()))
    return f"{label} ({where}: {' to '.join(ends)})"


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `judge` as text, in percent and points with two decimals."""
    numbers = (100 * rows[PERCENT]).map(two_decimals)
    return rows.assign(group_size=group_labels(rows), **numbers)


def section(ablation: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """A question's part of ablations.md: its figure, the sentence and the numbers."""
    shown = table(rows)
    interval = shown["ci_low"] + " … " + shown["ci_high"]
    of_difference = shown["difference_low"] + " … " + shown["difference_high"]
    numbers = pd.DataFrame(
        {
            "merge": shown["merge"],
            "quantizer": shown["series"],
            "bits": shown["bits"],
            ablation["vary"] or "variant": shown["label"],
            "average": shown["average"],
            "95 % interval": interval,
            "difference": shown["difference"],
            "interval of the difference": of_difference,
            "verdict": shown["verdict"],
        }
    )
    picture = f"![{ablation['question']}](ablations/{ablation['name']}.svg)"
    return "\n\n".join([f"## {ablation['question']}", sentence(ablation, rows), picture, markdown_table(numbers)])


def write_ablations(
    suite: str, answers: Sequence[tuple[Mapping[str, Any], pd.DataFrame]], *, csv: Path, markdown: Path
) -> None:
    """Writes ablations.csv and ablations.md.

    Args:
        suite: the suite's name.
        answers: each question, as from `Ablation.describe`, and its rows, as from `judge`.
        csv, markdown: where to.
    """
    write_csv(csv, pd.concat([table(rows).assign(ablation=ablation["name"]) for ablation, rows in answers], ignore_index=True))
    parts = [f"# Ablations: {suite}", HOW, *(section(ablation, rows) for ablation, rows in answers)]
    write_text(markdown, "\n\n".join(parts) + "\n")
