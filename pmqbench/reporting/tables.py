"""The suite's tables: leaderboard.csv and .md, comparisons.csv and mcnemar.csv, from the statistics of its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from pmqbench.files import atomic_path, write_text
from pmqbench.reporting.columns import COLUMNS
from pmqbench.reporting.mcnemar import MODEL, TESTS, mcnemar_tests
from pmqbench.reporting.standing import standing, worst_tasks
from pmqbench.reporting.statistics import REFERENCE_KINDS, Summary, ranking, rounded, standard_errors
from pmqbench.reporting.verdicts import ABOVE, BEST, LEVEL, REFERENCE, marked_rank, verdict_sentence

PERCENT = ("average", "ci_low", "ci_high", "normalised")
STANDING_PERCENT = ("win_rate", "improvability")
POINTS = ("difference", "ci_low", "ci_high", "detectable", "se_examples", "se_seeds")
P_VALUES = ("p", "p_holm")
TEXT_COLUMNS = (
    "suite",
    "merge",
    "quantizer",
    "against",
    "reference",
    "verdict",
    "setting",
    "task",
    "source",
    "chosen",
    "worst_task",
    "origin",
    "submitted_by",
    "link",
    "entry",
)
COMPARED = {"above": ABOVE, "to_reference": REFERENCE, "to_best": BEST}
NAMES = ("rank", "merge", "quantizer", "bits", "group_size")
STANDING = COLUMNS[COLUMNS.index("standard_error") :]

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
the individual experts, each on its own task, and the pre-trained model are references and have none. "=" after a rank: it is
not clear that the row above is better. *tied_rank* is one more than the number of models that are clearly better."""

HOW_STANDING = """\
*standard_error* is that of the average, from test examples and seeds. *to_reference* is the difference in points to the
reference quantizer under the same merge, bits and group size, *to_best* that to the model of rank 1. *to_reference_p*,
*to_best_p* and *above_p* (of the difference to the row above) are p-values of the paired test, corrected by Holm over their
column, those to the best model over all pairs, since the same records say which one that is; where *above_p* is 0.05 or
more the rank is marked "=". *tied_rank* counts the models that are better by the same test, corrected over all pairs: stricter.
*worst* is the least share of an expert's value that is kept on any task, *worst_task* names that task.

The rest describes the ranking, decides nothing, and depends on which models are in it: *win_rate* is the share of
comparisons with another model on one task that are won, *average_rank* the mean rank over tasks, *improvability* the mean
share of errors that the best model of a task does not make."""

HOW_COMPARED = """\
Paired differences in points: both models were scored on the same examples and, where calibrated, with the same seeds. *p*
is the two-sided p-value of the difference, below 0.05 where its 95 % interval excludes zero; *p_holm* is corrected by Holm
over all lines of the same *against*, for "best" over all pairs of models. "better" and "worse" mean that *p_holm* is below
0.05. *detectable* is the smallest difference that would have a *p* below 0.05; a true difference of that size is found one
time in two, one 1.4 times as large four in five. *se_examples* is the difference's standard error from test examples alone,
*se_seeds* the one from calibration seeds alone. `mcnemar.csv` has each of these pairs by task and seed, by McNemar's exact
test."""


def leaderboard(summary: Summary, pairs: pd.DataFrame) -> pd.DataFrame:
    """Entries as text, best first, references last.

    Args:
        summary: as from `statistics.summarise`.
        pairs: as from `comparisons.compare_all`.

    Returns:
        COLUMNS, then one column per task. Percentages, points and MB have two decimals, seconds one, p-values three digits.
        `rank` is the standard competition rank of the rounded average (1, 2, 2, 4), empty for references as all that depends on
        it; equal ranks keep the suite's order. `group_size` is "channel" for one scale per output channel and "-" at full
        precision.
    """
    entries, order = summary.entries, ranking(summary.entries)
    reference = entries["kind"].isin(REFERENCE_KINDS)
    rank = rounded(entries).mask(reference).rank(method="min", ascending=False)
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
            "standard_error": (100 * standard_errors(entries)).map(two_decimals),
        }
    )
    tasks = pd.DataFrame(100 * summary.values, columns=list(summary.tasks)).map(two_decimals)
    table = pd.concat([table, compared_columns(entries.index, pairs), standing_columns(summary)], axis=1)[list(COLUMNS)]
    return pd.concat([table, tasks], axis=1).iloc[order].reset_index(drop=True)


def compared_columns(entries: pd.Index, pairs: pd.DataFrame) -> pd.DataFrame:
    """Each entry's differences and corrected p-values, as text; empty where it is not compared with that."""
    columns = {}
    for name, against in COMPARED.items():
        rows = pairs[pairs["against"] == against].set_index("entry").reindex(entries)
        columns |= {name: (100 * rows["difference"]).map(two_decimals), f"{name}_p": rows["p_holm"].map(p_value)}
    return pd.DataFrame(columns)


def standing_columns(summary: Summary) -> pd.DataFrame:
    """How entries stand among each other, and their worst tasks, as text; empty for what is not ranked."""
    stand, worst = standing(summary).reindex(summary.entries.index), worst_tasks(summary)
    return pd.DataFrame(
        {
            "tied_rank": stand["tied_rank"].map("{:.0f}".format).where(stand["tied_rank"].notna(), ""),
            "average_rank": stand["average_rank"].map(two_decimals),
            **{column: (100 * stand[column]).map(two_decimals) for column in STANDING_PERCENT},
            "worst": (100 * worst["worst"]).map(two_decimals),
            "worst_task": worst["worst_task"],
        }
    )


def p_value(value: float) -> str:
    """A p-value as tables show it, below LEVEL only if it is: ties are told by what is shown. Empty where there is none."""
    shown = "" if pd.isna(value) else f"{value:.3g}"
    return "0.0499" if value < LEVEL and float(shown) >= LEVEL else shown


def two_decimals(value: float) -> str:
    """A number as tables show it, never "-0.00"; empty where there is none."""
    return "" if pd.isna(value) else f"{value:z.2f}"


def group_labels(frame: pd.DataFrame) -> pd.Series:
    """Text: "-" at full precision, "channel" for one scale per output channel, else the group size."""
    quantized = frame["kind"].eq("quantized") if "kind" in frame else pd.Series(True, frame.index)
    return frame["group_size"].astype("object").where(frame["group_size"].notna(), "channel").where(quantized, "-").astype(str)


def comparison_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Compared pairs as text, in points with two decimals; an unknown standard error is empty."""
    points = (100 * comparisons[list(POINTS)]).map(two_decimals)
    p_values = comparisons[list(P_VALUES)].map(p_value)
    table = comparisons.assign(group_size=group_labels(comparisons), **points, **p_values)
    return table.drop(columns=["entry", "other"])


def mcnemar_table(summary: Summary, pairs: pd.DataFrame) -> pd.DataFrame:
    """Every compared pair of entries once, by seed and task, as text.

    Args:
        summary: of the suite.
        pairs: as from `comparisons.compare_pairs`.

    Returns:
        The model's merge, quantizer, bits and group_size, the reference's with "reference_" before, and the tests; the seed is
        empty where neither has one.
    """
    tests = mcnemar_tests(summary, list(dict.fromkeys(zip(pairs["entry"], pairs["other"], strict=True))))
    names = summary.entries.assign(group_size=group_labels(summary.entries))[MODEL]
    models = names.loc[tests["entry"]].reset_index(drop=True)
    references = names.loc[tests["other"]].reset_index(drop=True).add_prefix("reference_")
    shown = {"seed": tests["seed"].astype("Int64"), **{name: tests[name].map(p_value) for name in P_VALUES}}
    return pd.concat([models, references, tests[TESTS].assign(**shown)], axis=1)


def markdown_table(table: pd.DataFrame) -> str:
    """A table of text as GitHub markdown; all but TEXT_COLUMNS are aligned right. A name may hold a bar."""
    lines = [
        "| " + " | ".join(table.columns) + " |",
        "|" + "|".join(" :-- " if column in TEXT_COLUMNS else " --: " for column in table.columns) + "|",
        *("| " + " | ".join(str(cell).replace("|", r"\|") for cell in row) + " |" for row in table.itertuples(index=False)),
    ]
    return "\n".join(lines)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A leaderboard for reading: ties marked, the interval's two columns one, and no columns of the standing's own table."""
    marked = table.assign(rank=[marked_rank(row) for row in table.to_dict("records")])
    short = with_interval(marked.drop(columns=list(STANDING)))
    short.insert(list(short.columns).index("rank") + 1, "tied_rank", table["tied_rank"])
    return short


def with_interval(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns of an interval's two ends became one."""
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
            "## Standing",
            markdown_table(table[[*NAMES, *STANDING]]),
            HOW_STANDING,
            "## Paired comparisons",
            markdown_table(with_interval(comparisons)),
            HOW_COMPARED,
        )
        if part
    )


def warnings_markdown(warnings: Sequence[Mapping[str, str]]) -> str:
    """A section with a line a warning, in which nothing is markup of HTML; "" if there are none."""
    lines = [f"- {escape(': '.join((warning['where'], warning['message'])), quote=False)}" for warning in warnings]
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
    mcnemar: Path,
) -> None:
    """Writes leaderboard.csv, leaderboard.md, comparisons.csv and mcnemar.csv.

    Args:
        summary: as from `statistics.summarise`.
        pairs: as from `comparisons.compare_all`.
        warnings: as from `report_warnings.write_warnings`, read.
        csv, markdown, comparisons, mcnemar: where to.
    """
    table, compared = leaderboard(summary, pairs), comparison_table(pairs)
    write_csv(csv, table)
    write_csv(comparisons, compared)
    write_csv(mcnemar, mcnemar_table(summary, pairs))
    write_text(markdown, leaderboard_markdown(summary.suite, table, compared, warnings) + "\n")
