"""What the README shows of a report, and how it gets there: its block between two markers, and its picture.

python -m pmqbench.reporting.readme README.md results/suites/mini
"""

from __future__ import annotations

import sys
from pathlib import Path

from pmqbench.errors import DataError, did_you_mean
from pmqbench.files import atomic_path, write_text
from pmqbench.reporting.columns import COLUMNS
from pmqbench.reporting.leaderboard import read_leaderboard
from pmqbench.reporting.tables import markdown_table, readable
from pmqbench.reporting.verdicts import FULL_PRECISION, read_pairs, verdict_sentence

BEGIN, END = "<!-- leaderboard:begin -->", "<!-- leaderboard:end -->"
PICTURE = "average_by_bits.png"
LEFT_OUT = ("seeds", "compression")  # for a page's width; the report has them


def excerpt(report: str | Path, merge: str | None = None) -> str:
    """Markdown: every model of one merge, the references, and which methods beat the reference quantizer under which merges.

    Args:
        report: folder of a report.
        merge: its name; by default the best at full precision, as a method that only wins on a weak merge should not look good.

    Raises:
        DataError: the report has no such merge.
    """
    report = Path(report)
    table, pairs = read_leaderboard(report / "leaderboard.csv")[list(COLUMNS)], read_pairs(report / "comparisons.csv")
    merges = list(dict.fromkeys(pair["merge"] for pair in pairs))
    note = "" if merge else ", the best at full precision"
    merge = merge or str(table["merge"][table["merge"].isin(merges) & (table["quantizer"] == FULL_PRECISION)].iloc[0])
    if merge not in merges:
        raise DataError(f'no merge "{merge}".', where=str(report), remedy=did_you_mean(merge, merges))
    ranked = table["rank"] != ""
    # The row above is mostly another merge's, which is not shown, so there is no mark for ties with it.
    shown = table[(table["merge"] == merge) | ~ranked].drop(columns=list(LEFT_OUT)).assign(above_p="")
    heading = (
        f"**{report.name}**, merge {merge}{note}: every quantizer, and the references (ranks among all {ranked.sum()} models)"
    )
    return "\n\n".join(part for part in (heading, markdown_table(readable(shown)), verdict_sentence(pairs)) if part)


def refresh_block(readme: str | Path, markdown: str) -> bool:
    """Replaces what stands between the markers BEGIN and END by `markdown`.

    Returns:
        Whether the file changed; it is written only then.

    Raises:
        DataError: a marker is missing, doubled or in the wrong order.
    """
    text = Path(readme).read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        what = f"needs the lines {BEGIN} and {END}, once each and in this order."
        raise DataError(what, where=str(readme), remedy="Put them back.")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    fresh = f"{head}{BEGIN}\n{markdown.strip()}\n{END}{tail}"
    if fresh == text:
        return False
    write_text(readme, fresh)
    return True


def refresh(readme: Path, report: Path) -> None:
    """Brings the README's block and its picture, docs/images/ beside it, up to a report."""
    refresh_block(readme, excerpt(report))
    with atomic_path(readme.parent / "docs/images" / PICTURE) as temporary:
        temporary.write_bytes((report / "plots" / PICTURE).read_bytes())


if __name__ == "__main__":
    refresh(*map(Path, sys.argv[1:]))
