"""The suite's tables: leaderboard.csv, comparisons.csv and leaderboard.md, from the statistics of its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pmqbench.files import atomic_path, write_text
from pmqbench.reporting.statistics import Summary
from pmqbench.reporting.verdicts import verdict_sentence

COLUMNS = (
    "rank",
    "merge",
    "quantizer",
    "bits",
    "group_size",
    "seeds",
    "average",
    "ci_low",
    "ci_high",
    "normalised",
    "size_mb",
    "compression",
    "calibration_seconds",
    "samples",
    "chosen",
)
PERCENT = ("average", "ci_low", "ci_high", "normalised")
POINTS = ("difference", "ci_low", "ci_high", "mc_error", "se_examples", "se_seeds")
TEXT_COLUMNS = ("suite", "merge", "quantizer", "reference", "verdict", "setting", "task", "source", "chosen")
REFERENCE_KINDS = ("base", "expert")

HOW = """\
How these are computed: metrics in percent (Spearman's rho times 100). *average* is the mean over tasks, then over calibration
seeds. *ci_low* and *ci_high* bound its 95 % interval, a bootstrap over test examples (within each task) and calibration
seeds. *normalised* is the mean over tasks of the value divided by that task's expert's value. *size_mb* is what the weights
take in storage (10^6 bytes; of a quantized model the exported file, of the individual experts all together), *compression*
how many times smaller than the base that is. *calibration_seconds* is the wall-clock time that it took on this machine to
make the model from the experts' checkpoints: merging, quantizing and refining, and all that was tried to choose options,
added up; mean over seeds. Evaluation is not in it. *samples* is how many training samples of each task that took at most, 0
where none was looked at. *chosen* names the options that were chosen by the labels of the validation splits; "-" is a model
that no such label was used for. Test data plays no part in making any model. Models of equal rounded average share a rank;
the individual experts, each on its own task, and the pre-trained model are references and have none."""

HOW_COMPARED = """\
Paired differences in points: both models see the same redrawn examples and, where calibrated, the same seeds. "better" and
"worse" mean that the 95 % interval excludes zero by more than *mc_error*, which is how far its ends may move with other random
draws; of equal models, one pair in twenty looks different by chance. *se_examples* is the difference's standard error from test
examples alone, *se_seeds* the one from calibration seeds alone."""


def leaderboard(summary: Summary) -> pd.DataFrame:
    """Entries as text, best first, references last.

    Returns:
        COLUMNS, then one column per task. Percentages and MB have two decimals, seconds one. `rank` is the standard competition
        rank of the rounded average (1, 2, 2, 4), empty for references; equal ranks keep the suite's order. `group_size` is
        "channel" for one scale per output channel and "-" at full precision.
    """
    entries = summary.entries
    rounded = (100 * entries["average"]).round(2)
    reference = entries["kind"].isin(REFERENCE_KINDS)
    rank = rounded.mask(reference).rank(method="min", ascending=False)
    table = pd.DataFrame(
        {
            "rank": rank.map("{:.0f}".format).mask(reference, ""),
            "merge": entries["merge"],
            "quantizer": entries["quantizer"],
            "bits": entries["bits"],
            "group_size": group_labels(entries),
            "seeds": entries["seeds"],
            **{column: (100 * entries[column]).map(two_decimals) for column in PERCENT},
            **{column: entries[column].map(two_decimals) for column in ("size_mb", "compression")},
            "calibration_seconds": entries["calibration_seconds"].map("{:.1f}".format),
            "samples": entries["calibration_samples"].astype(str),
            "chosen": entries["chosen"].replace("", "-"),
        }
    )
    tasks = pd.DataFrame(100 * summary.values, columns=list(summary.tasks)).map(two_decimals)
    order = np.lexsort([-rounded, reference])  # stable
    return pd.concat([table, tasks], axis=1).iloc[order].reset_index(drop=True)


def two_decimals(value: float) -> str:
    """A number as tables show it, never "-0.00"; empty where there is none."""
    return "" if pd.isna(value) else f"{value:z.2f}"


def group_labels(frame: pd.DataFrame) -> pd.Series:
    """Text: "-" at full precision, "channel" for one scale per output channel, else the group size."""
    quantized = frame["kind"].eq("quantized") if "kind" in frame else pd.Series(True, frame.index)
    return frame["group_size"].astype("object").where(frame["group_size"].notna(), "channel").where(quantized, "-").astype(str)


def comparison_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """The rows of `statistics.compare` as text, in points with two decimals; an unknown standard error is empty."""
    points = (100 * comparisons[list(POINTS)]).map(two_decimals)
    return comparisons.assign(group_size=group_labels(comparisons), **points)


def markdown_table(table: pd.DataFrame) -> str:
    """A table of text as GitHub markdown; all but TEXT_COLUMNS are aligned right. A name may hold a bar."""
    lines = [
        "| " + " | ".join(table.columns) + " |",
        "|" + "|".join(" :-- " if column in TEXT_COLUMNS else " --: " for column in table.columns) + "|",
        *("| " + " | ".join(str(cell).replace("|", r"\|") for cell in row) + " |" for row in table.itertuples(index=False)),
    ]
    return "\n".join(lines)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table for reading: the interval's two columns become one."""
    interval = table["ci_low"] + " … " + table["ci_high"]
    place = list(table.columns).index("ci_low")
    short = table.drop(columns=["ci_low", "ci_high"])
    short.insert(place, "95 % interval", interval)
    return short


def leaderboard_markdown(
    suite: str, table: pd.DataFrame, comparisons: pd.DataFrame, warnings: Sequence[Mapping[str, str]]
) -> str:
    """The page leaderboard.md."""
    return "\n\n".join(
        part
        for part in (
            f"# Leaderboard: {suite}",
            warnings_markdown(warnings),
            verdict_sentence(comparisons.astype(str).to_dict("records")),
            markdown_table(readable(table)),
            HOW,
            "## Paired comparisons",
            markdown_table(readable(comparisons)),
            HOW_COMPARED,
        )
        if part
    )


def warnings_markdown(warnings: Sequence[Mapping[str, str]]) -> str:
    """A section with a line a warning; "" if there are none."""
    lines = [f"- {warning['where']}: {warning['message']}" for warning in warnings]
    return "\n\n".join(["## Warnings", "\n".join(lines), "## Models"]) if lines else ""


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Writes a table of text as CSV, whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def write_tables(
    summary: Summary,
    pairs: pd.DataFrame,
    warnings: Sequence[Mapping[str, str]],
    *,
    csv: Path,
    markdown: Path,
    comparisons: Path,
) -> None:
    """Writes leaderboard.csv, leaderboard.md and comparisons.csv.

    Args:
        summary: as from `statistics.summarise`.
        pairs: as from `statistics.compare`.
        warnings: as from `report_warnings.write_warnings`, read.
        csv, markdown, comparisons: where to.
    """
    table, compared = leaderboard(summary), comparison_table(pairs)
    write_csv(csv, table)
    write_csv(comparisons, compared)
    write_text(markdown, leaderboard_markdown(summary.suite, table, compared, warnings) + "\n")
