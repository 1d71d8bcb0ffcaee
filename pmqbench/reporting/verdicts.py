"""What tests say, in words: which methods beat the reference quantizer and which lose to it, and which ranks are tied."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

BETTER, WORSE, UNCLEAR = "better", "worse", "no clear difference"
FULL_PRECISION = "full precision"
REFERENCE, BEST, ABOVE = "reference", "best", "row above"  # what else a model is compared with

LEVEL = 0.05

Pair = Mapping[str, str]


def read_pairs(path: str | Path) -> list[dict[str, str]]:
    """The rows of comparisons.csv."""
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def verdict_sentence(pairs: Sequence[Pair]) -> str:
    """What the comparisons with the reference quantizer say; "" if there are none.

    Args:
        pairs: rows of comparisons.csv; those against anything else are left out.

    Returns:
        For instance "Against gptq at 4 bits, better: epmq (every merge); worse: rtn (ta); no clear difference: rtn (ties)." Bit
        widths and group sizes of which the same is to be said share it.
    """
    return _sentence(pairs, (BETTER, WORSE, UNCLEAR))


def clear_verdicts(pairs: Sequence[Pair]) -> str:
    """The same in brief: what is clearly better or worse; "" if there are no comparisons with the reference quantizer."""
    said = _sentence(pairs, (BETTER, WORSE))
    return said and f"{said} All else: {UNCLEAR}."


def _sentence(pairs: Sequence[Pair], verdicts: Sequence[str]) -> str:
    pairs = [pair for pair in pairs if pair["against"] == REFERENCE]
    if not pairs:
        return ""
    settings: dict[str, list[Pair]] = {}
    for pair in pairs:
        settings.setdefault(setting(pair), []).append(pair)
    merges = {pair["merge"] for pair in pairs}
    clauses: dict[str, list[str]] = {}
    for label, rows in settings.items():
        clauses.setdefault(clause(rows, merges, verdicts), []).append(label)
    said = [f"at {' and '.join(labels)}, {words}" for words, labels in clauses.items()]
    return f"Against {pairs[0]['reference']} {'. '.join([said[0], *(f'A{words[1:]}' for words in said[1:])])}."


def marked_rank(row: Mapping[str, str]) -> str:
    """The rank of a leaderboard's row, with "=" where it is not clear that the row above is better."""
    return row["rank"] + ("=" if row["above_p"] and float(row["above_p"]) >= LEVEL else "")


def setting(pair: Pair) -> str:
    """The bit width, and the group size if there is one."""
    bits = f"{pair['bits']} bits"
    return bits if pair["group_size"] == "channel" else f"{bits} in groups of {pair['group_size']}"


def clause(pairs: Sequence[Pair], merges: set[str], verdicts: Sequence[str]) -> str:
    """Methods by verdict at one setting, each with the merges under which it has that verdict."""
    found: dict[str, dict[str, list[str]]] = {verdict: {} for verdict in verdicts}
    for pair in pairs:
        if pair["verdict"] in found:
            found[pair["verdict"]].setdefault(pair["quantizer"], []).append(pair["merge"])
    return "; ".join(
        f"{verdict}: {', '.join(f'{name} ({under(where, merges)})' for name, where in names.items()) or 'none'}"
        for verdict, names in found.items()
    )


def under(where: Sequence[str], merges: set[str]) -> str:
    """Names of merges; "every merge" if these are all of several."""
    return "every merge" if set(where) == merges and len(merges) > 1 else ", ".join(where)
