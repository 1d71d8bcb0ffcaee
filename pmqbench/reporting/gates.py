"""The gate before merging: does each expert, on its own task, beat the base, and is it as good as was published?

An expert of another revision, another split, other prompts or another preprocessing spoils everything after it and shows in no
later number as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pmqbench.errors import DataError
from pmqbench.records import Record
from pmqbench.reporting.published import DIFFERS, judge

REMEDY = "Check the revisions of expert, base and data set, the evaluation split, class names and prompts."
BELOW_REMEDY = (
    "Check that it was fine-tuned from this base and on this task, and the preprocessing, class names and prompts of the suite."
)


def check_experts(
    records: Iterable[Record], base: Iterable[Record], values: Mapping[str, float], tolerances: Mapping[str, float], source: str
) -> dict[str, Any]:
    """Compares experts with the base and with published numbers.

    Args:
        records: each expert's on its own task.
        base: the base's on each of these tasks.
        values: published percent by task; empty where nothing is published.
        tolerances: points by task.
        source: of the values.

    Returns:
        JSON: "source", "experts" (expert, task and what `judge` says), "unchecked": tasks that have no published value, and
        "below_base": expert, task, ours and base (percent) where an expert scores less than the base.
    """
    records, bases = list(records), {record.task: record.value for record in base}
    experts = [
        {"expert": record.model, "task": record.task} | judge(100 * record.value, values[record.task], tolerances[record.task])
        for record in records
        if record.task in values
    ]
    below = [
        {"expert": record.model, "task": record.task, "ours": 100 * record.value, "base": 100 * bases[record.task]}
        for record in records
        if record.value < bases[record.task]
    ]
    unchecked = [record.task for record in records if record.task not in values]
    return {"source": source, "experts": experts, "unchecked": unchecked, "below_base": below}


def published_warnings(gates: Mapping[str, Any]) -> list[str]:
    """One line for each expert outside its published number's tolerance."""
    return [
        f"{gate['expert']}, task {gate['task']}: {gate['ours']:z.2f} %, published {gate['published']:z.2f} "
        f"({gates['source']}), {gate['difference']:+z.2f} points where {gate['tolerance']:g} are tolerated."
        for gate in gates["experts"]
        if gate["verdict"] == DIFFERS
    ]


def base_warnings(gates: Mapping[str, Any]) -> list[str]:
    """One line for each expert that scores below the base."""
    return [
        f"{gate['expert']}, task {gate['task']}: the expert has {gate['ours']:z.2f} %, less than the {gate['base']:z.2f} of "
        f"the base. {BELOW_REMEDY}"
        for gate in gates["below_base"]
    ]


def gate_warnings(gates: Mapping[str, Any]) -> list[str]:
    """All that the gate has to say; [] if every expert passes."""
    return [*base_warnings(gates), *(f"{warning} {REMEDY}" for warning in published_warnings(gates))]


def refuse(gates: Mapping[str, Any]) -> None:
    """Stops a strict suite; DataError with all warnings if there are any."""
    if warnings := gate_warnings(gates):
        raise DataError(
            "experts score below the base, or differ from their published numbers by more than is tolerated (strict: true):\n"
            + "\n".join(warnings)
            + "\n",
            where="experts",
            remedy="Without `strict` these are warnings.",
        )
