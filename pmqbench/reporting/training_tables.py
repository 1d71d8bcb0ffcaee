"""variance.csv, differences.csv and variance.md: what several training seeds say, as tables and in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pmqbench.files import write_text
from pmqbench.reporting.tables import group_labels, markdown_table, p_value, two_decimals, with_interval, write_csv
from pmqbench.reporting.training_seeds import COMPONENTS, seed_columns
from pmqbench.reporting.verdicts import LEVEL, REFERENCE

DEVIATIONS = [f"sd_{name}" for name in COMPONENTS]
P_VALUES = ["p", "p_holm"]

HOW = """\
Base and experts were trained anew with each training seed; data, test examples and calibration seeds are the same for all
of them. Averages are over tasks, calibration and training seeds, in percent, differences in points. The 95 % intervals
cover other training seeds, other calibration seeds and other test examples (Student's t; with few training seeds they are
wide). "beats" and "loses to": p below 0.05 after Holm's correction for all differences of the list, so an interval that
just leaves out zero may still be "not clearly". *sd_training*, *sd_calibration* and *sd_examples* are the standard
deviations that the three add to the result of one run, each without the others' share; 0 is an estimate that is not above
zero."""


def sentence(row: Any, seeds: Sequence[int]) -> str:
    """What training seeds say to one difference.

    Args:
        row: of the table of `training_seeds.differences`.
        seeds: the training seeds.

    Returns:
        For instance "distilled beats gptq (wudi at 2 bits) at each of 3 training seeds: +6.7 [+4.1, +9.3]."
    """
    group = "" if pd.isna(row["group_size"]) else f" in groups of {row['group_size']}"
    where = f"({row['merge']} at {row['bits']} bits{group})"
    size = f"{points(row['difference'])} [{points(row['ci_low'])}, {points(row['ci_high'])}]"
    clear, higher = row["p_holm"] < LEVEL, row["difference"] > 0
    if row["seeds_agree"] < len(seeds):
        each = ", ".join(points(row[name]) for name in seed_columns(seeds))
        on_average = f"{'better' if higher else 'worse'} on average" if clear else "no clear difference"
        what = f"{row['quantizer']} against {row['reference']} {where} depends on the training seed ({each}): {on_average}"
        return f"{what}, {size}."
    verb = ("beats" if higher else "loses to") if clear else ("is above" if higher else "is below")
    doubt = "" if clear else ", but not clearly"
    return f"{row['quantizer']} {verb} {row['reference']} {where} at each of {len(seeds)} training seeds{doubt}: {size}."


def points(value: float) -> str:
    """A difference in points as sentences show it."""
    return f"{100 * value:+z.1f}"


def summary_sentences(averages: pd.DataFrame, differences: pd.DataFrame, seeds: Sequence[int]) -> str:
    """How many differences to the reference hold for every training seed, and how much each source varies, in the median."""
    to_reference = differences[differences["against"] == REFERENCE]
    agree = to_reference["seeds_agree"] == len(seeds)
    clear = agree & (to_reference["p_holm"] < LEVEL)
    quantized = averages[averages["kind"] == "quantized"]
    varies = []
    for merge, rows in quantized.groupby("merge", sort=False):
        compared = to_reference[to_reference["merge"] == merge]
        difference = "" if compared.empty else f", its difference of {_deviations(compared)}"
        what = "the average of one run has standard deviations (medians over the quantized models) of"
        varies.append(f"Under {merge}, {what} {_deviations(rows)}{difference}.")
    holds = (
        f"Of {len(to_reference)} differences to {to_reference['reference'].iloc[0]}, {agree.sum()} have one sign at each of "
        f"{len(seeds)} training seeds, and {clear.sum()} of these are clear."
    )
    return " ".join([holds, *varies])


def _deviations(table: pd.DataFrame) -> str:
    """Medians of the deviations that are known of all rows: with one calibration seed, that from it is not."""
    medians = 100 * table[DEVIATIONS].median(skipna=False)
    named = zip(("training seeds", "calibration seeds", "examples"), medians, strict=True)
    *most, last = [f"{value:.1f} from {name}" for name, value in named if pd.notna(value)]
    return f"{', '.join(most)} and {last}"


def as_text(table: pd.DataFrame, seeds: Sequence[int]) -> pd.DataFrame:
    """A table of `training_seeds` in percent and points with two decimals."""
    mean = "average" if "average" in table else "difference"
    numbers = [mean, "ci_low", "ci_high", *seed_columns(seeds), *DEVIATIONS]
    shown = table.assign(group_size=group_labels(table), **(100 * table[numbers]).map(two_decimals))
    p_values = [name for name in P_VALUES if name in table]
    return shown.assign(**table[p_values].map(p_value)).drop(columns=[name for name in ("kind",) if name in table])


def write_training(
    suite: str,
    averages: pd.DataFrame,
    differences: pd.DataFrame,
    seeds: Sequence[int],
    *,
    csv: Path,
    csv_of_differences: Path,
    markdown: Path,
) -> None:
    """Writes variance.csv, differences.csv and variance.md.

    Args:
        suite: the suite's name.
        averages, differences: as from `training_seeds`.
        seeds: the training seeds.
        csv, csv_of_differences, markdown: where to.
    """
    own, compared = as_text(averages, seeds), as_text(differences, seeds)
    said = [sentence(row, seeds) for row in differences.to_dict("records")]
    write_csv(csv, own)
    write_csv(csv_of_differences, compared.assign(sentence=said))
    parts = [f"# Training seeds: {suite}", summary_sentences(averages, differences, seeds), HOW]
    parts.append(f"![Averages and differences by training seed]({markdown.with_suffix('.svg').name})")
    for _, rows in compared.groupby("against", sort=False):
        listed = "\n".join(f"- {said[row]}" for row in rows.index)
        table = with_interval(rows.drop(columns=["against"])).rename(columns={"seeds_agree": "seeds that agree"})
        parts += [
            f"## Against {rows['reference'].iloc[0]}",
            listed,
            markdown_table(table),
        ]
    parts += ["## Averages", markdown_table(with_interval(own))]
    write_text(markdown, "\n\n".join(parts) + "\n")
