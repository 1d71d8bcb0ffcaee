"""The gate before merging: is each expert, on its own task, as good as was published?

An expert of another revision, another split or other prompts spoils everything after it and shows in no later number as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pmqbench.errors import DataError
from pmqbench.records import Record
from pmqbench.reporting.published import DIFFERS, judge

REMEDY = "Check the revisions of expert, base and data set, the evaluation split, class names and prompts."


def check_experts(
    records: Iterable[Record], values: Mapping[str, float], tolerances: Mapping[str, float], source: str
) -> dict[str, Any]:
    """Compares experts with published numbers.

    Args:
        records: each expert's on its own task.
        values: published percent by task.
        tolerances: points by task.
        source: of the values.

    Returns:
        JSON: "source", "experts" (expert, task and what `judge` says), and "unchecked": tasks that have no published value.
    """
    records = list(records)
    experts = [
        {"expert": record.model, "task": record.task} | judge(100 * record.value, values[record.task], tolerances[record.task])
        for record in records
        if record.task in values
    ]
    return {"source": source, "experts": experts, "unchecked": [r.task for r in records if r.task not in values]}


def gate_warnings(gates: Mapping[str, Any]) -> list[str]:
    """One line for each expert outside its tolerance."""
    return [
        f"{gate['expert']}, task {gate['task']}: {gate['ours']:.2f} %, published {gate['published']:.2f} "
        f"({gates['source']}), {gate['difference']:+.2f} points where {gate['tolerance']:g} are tolerated."
        for gate in gates["experts"]
        if gate["verdict"] == DIFFERS
    ]


def refuse(warnings: list[str]) -> None:
    """Stops a strict suite; DataError with all warnings if there are any."""
    if warnings:
        raise DataError(
            "experts differ from their published numbers by more than is tolerated (strict: true):\n"
            + "\n".join(warnings)
            + "\n",
            where="experts",
            remedy=f"{REMEDY} Without `strict` this is a warning.",
        )
