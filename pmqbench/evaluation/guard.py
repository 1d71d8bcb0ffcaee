"""Numbers that cannot be right are refused, before they become records and before records become tables.

A model is looked at before it is asked (`check_model`), each score as it comes (`check_score`), and all records of a suite
together (`check_records`), where two models can be told apart. What may be equal is: two recipes that chose the same option,
the seeds of a method that needs none, a refinement that kept its start, and anything at 16 bits. All of these have the same
weights, and `fingerprint` says so.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.errors import DataError, NumericalError
from pmqbench.evaluation.base import Score
from pmqbench.records import Record

if TYPE_CHECKING:
    from pmqbench.checkpoints import Checkpoint
    from pmqbench.families.base import BlockModel

log = logging.getLogger(__name__)

PACKED = "packed.safetensors"
UNROUNDED_BITS = 16
"""Bits from which a quantizer rounds nothing, and its model may be the merge itself."""
EQUAL_LOGITS = 1e-4
"""How far exp(loss) may be from a whole number where all logits are equal: the loss is rounded to float32."""
ROUNDING = 1e-9
"""Of a mean of outcomes, relative to 1."""
FINGERPRINT = "tensors"
"""Where a record's provenance has the fingerprint of the weights that were evaluated."""


def check_model(model: BlockModel, checkpoint: Checkpoint, folder: Path, recipe: Mapping[str, Any]) -> str:
    """Checks that a model runs with the weights of its file and, if it is quantized, that these are on their grid.

    Args:
        model: as it will be asked.
        checkpoint: of its file.
        folder: its folder; a quantized model's codes are beside its weights.
        recipe: of its manifest; {"quantizer": {"options": {"bits"}}} of a quantized model.

    Returns:
        SHA-256 of the weights, whatever their file says of itself and in which order.

    Raises:
        DataError: a tensor of the model or of its codes is not what the file has, or there are no codes at all.
    """
    packed = _unpacked(folder / PACKED, recipe["quantizer"]["options"]["bits"]) if "quantizer" in recipe else {}
    state, whole = model.state_dict(), hashlib.sha256()
    for name in sorted(checkpoint.names()):
        tensor = checkpoint.tensor(name).float()
        if name not in state or not _equal(state[name].cpu(), tensor):
            what = f'the model does not run with the tensor "{name}" of its file: its family loads something else.'
            raise DataError(what, where=str(folder), remedy="Mend `build` of the family; no result of it can be believed.")
        if packed and not (name in packed and _equal(packed[name](), tensor)):
            what = f'the tensor "{name}" is not what {PACKED} beside it gives (codes x scales): it is on no grid of its size.'
            raise DataError(what, where=str(folder), remedy="Delete this folder and run again: it is quantized anew.")
        whole.update(f"{name} {tuple(tensor.shape)}\0".encode())
        whole.update(tensor.contiguous().numpy())
    return whole.hexdigest()


def _unpacked(path: Path, bits: int) -> dict[str, Any]:
    """Functions that give each tensor of a packed model, by name; DataError below 16 bits if no layer has codes."""
    from pmqbench.checkpoints import Checkpoint
    from pmqbench.quantization.packing import load_codes

    codes, file = load_codes(path), Checkpoint(path)
    if bits < UNROUNDED_BITS and not codes:
        what = f"no layer has codes, though the recipe has {bits} bits: this model is as large as its merge."
        raise DataError(what, where=str(path), remedy="Delete its folder and run again: it is quantized anew.")
    plain = {name: lambda name=name: file.tensor(name).float() for name in file.names()}
    return plain | {f"{layer}.weight": coded.weight for layer, coded in codes.items()}


def _equal(first: Any, second: Any) -> bool:
    import torch

    return torch.equal(first, second)


def check_score(score: Score, examples: int, where: str) -> None:
    """Raises an error for a score that no model has on that many examples.

    Raises:
        DataError: of another number of examples.
        NumericalError: out of the metric's range, or not the mean of its outcomes.
    """
    if score.n != examples:
        what = f"{score.n} examples were scored, the test split has {examples}."
        raise DataError(what, where=where, remedy="Delete the task's folder below results/data and run again.")
    wrong = [
        *([f"the metric is {score.value}, not within {score.least:g} .. 1"] if not score.least <= score.value <= 1 else []),
        *([f"its standard error is {score.standard_error}"] if not 0 <= score.standard_error < math.inf else []),
        *([f"the loss is {score.loss}"] if score.loss is not None and not 0 <= score.loss < math.inf else []),
    ]
    if score.correct is not None and not wrong:
        mean = float(score.correct.mean()) if len(score.correct) else math.nan
        if len(score.correct) != score.n or not abs(mean - score.value) <= ROUNDING:
            wrong = [f"{len(score.correct)} outcomes have the mean {mean}, the metric is {score.value} of {score.n}"]
    if wrong:
        raise NumericalError(f"{'; '.join(wrong)}.", where=where, remedy="The protocol or the model's outputs are at fault.")


@dataclass(frozen=True)
class Named:
    """A record with the suite's names for its model.

    Attributes:
        record: of one model on one task.
        merge: display name; None for the base and the experts.
        bits: of its weights.
    """

    record: Record
    merge: str | None
    bits: int


def check_records(found: Iterable[Named]) -> None:
    """Checks all records of a suite together.

    Raises:
        DataError: two records of a task are of another number of examples; a model below 16 bits has its merge's own weights;
            two models with different weights answer every example alike, to the last digit of the loss.
    """
    found = list(found)
    counts: dict[str, Record] = {}
    answers: dict[tuple[Any, ...], Record] = {}
    merged = {(one.merge, weights_of(one.record)) for one in found if one.record.kind == "merged"}
    for one in found:
        record = one.record
        first = counts.setdefault(record.task, record)
        if first.n != record.n:
            what = f"{record.model} was scored on {record.n} examples, {first.model} on {first.n}."
            raise DataError(what, where=f"task {record.task}", remedy=_again(first, record))
        if record.kind == "quantized" and one.bits < UNROUNDED_BITS and (one.merge, weights_of(record)) in merged:
            what = f"it has {one.bits} bits and the weights of its merge at full precision: nothing was rounded."
            raise DataError(what, where=record.model, remedy=_again(record))
        if not tells_apart(record.loss):
            continue
        twin = answers.setdefault((record.task, record.loss, record.correct), record)
        if weights_of(twin) != weights_of(record):
            what = f"{twin.model} and {record.model} have other weights, but answer all examples alike (loss {record.loss})."
            raise DataError(what, where=f"task {record.task}", remedy=f"One was not evaluated. {_again(twin, record)}")


def tells_apart(loss: float | None) -> bool:
    """Whether two models cannot have this loss both by chance.

    They can where it rounds to 0, and where all classes are as likely for every example: then it is the logarithm of their
    number, whatever the weights. Which answers are right alone does not tell models apart either.
    """
    return bool(loss) and abs(math.exp(loss) - round(math.exp(loss))) > EQUAL_LOGITS


def weights_of(record: Record) -> str:
    """The fingerprint of the weights that a record is of; DataError for a record that states none."""
    if FINGERPRINT not in record.provenance:
        what = "its record does not say what weights were evaluated."
        raise DataError(what, where=f"{record.model}, task {record.task}", remedy=_again(record))
    return record.provenance[FINGERPRINT]


def _again(*records: Record) -> str:
    folders = " and ".join(f"results/evaluations/{record.model}" for record in records)
    return f"Delete {folders} and run again."
