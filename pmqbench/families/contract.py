"""The contract of a suite: what must be the same in its base and in every expert, whatever the family.

One shape, one activation, one pixel normalisation, one tokenizer, one projection into the space of the heads. A merge averages
weights; with another activation or another normalisation behind them, they mean something else, and no later number shows it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.checkpoints import Checkpoint, unlike
from pmqbench.errors import DataError

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

ROUNDING = 1e-6  # config files hold float32 numbers in decimal, now and then with fewer digits
# ||expert - base|| / ||base|| over matrices. The mini suite's experts have 0.07 to 0.08, after a short training at a high
# learning rate. A model trained on its own has sqrt(2) if its weights spread as the base's do, since the two are orthogonal.
UNUSUAL_TASK_VECTOR = 0.5
PROBES = (
    "A photo of a  big red BUS, taken in 1998.",
    "naïve café – 日本語 \U0001f600 it's don't\nnew line\tand tab",
    "question: is this x^2 + 3*y = 12.5% ? </s> <pad> <extra_id_0> <|endoftext|>",
)
"""Texts with what tokenizers treat apart: capitals, runs of spaces, accents, other scripts, numbers, special tokens."""


def compare_traits(expert: Mapping[str, Any], base: Mapping[str, Any], label: str) -> None:
    """Raises DataError naming every trait in which an expert differs from the base, with both values."""
    differing = [name for name in base if not _same(expert[name], base[name])]
    if differing:
        what = "; ".join(f"{name} is {expert[name]}, in the base {base[name]}" for name in differing)
        remedy = "All models of a suite have the base's config, preprocessing and tokenizer: use experts tuned from this base."
        raise DataError(f"{what}.", where=label, remedy=remedy)


def compare_tokenizers(expert: Path, base: Path, label: str) -> None:
    """Raises DataError if two tokenizer.json differ in vocabulary, or in how they cut up the probes.

    Files are not compared byte by byte: versions of the library write the same tokenizer differently.
    """
    own, known = (_tokenizer(path) for path in (expert, base))
    tokens = [{index: token for token, index in each.get_vocab().items()} for each in (own, known)]
    for index in sorted(tokens[0].keys() | tokens[1].keys()):
        first, second = (table.get(index) for table in tokens)
        if first != second:
            raise _other_tokenizer(f"token {index} is {first!r}, in the base's {second!r}", expert, label)
    for text in PROBES:
        first, second = (each.encode(text).tokens for each in (own, known))
        if first != second:
            raise _other_tokenizer(f"{text!r} is cut into {first}, by the base's into {second}", expert, label)


def check_left_over(
    expert: Checkpoint, base: Checkpoint, shared: Collection[str], unused: Collection[str], buffers: Collection[str]
) -> None:
    """Checks an expert's stored tensors beside those that are merged.

    Args:
        expert, base: checkpoints of the family.
        shared: stored names of tensors that every model takes from the base: an expert's own must be equal.
        unused: patterns of stored names that an expert is not asked for; another value than the base's is a warning.
        buffers: patterns of stored names that hold no weights.

    Raises:
        DataError: the family does not know a tensor, or a shared one is not the base's.
    """
    ignored = []
    for name in expert.left_over():
        if any(fnmatch(name, pattern) for pattern in buffers):
            continue
        own, known = expert.left_over_tensor(name), base.left_over_tensor(name)
        if name in shared:
            _check_shared(name, own, known, expert)
        elif not any(fnmatch(name, pattern) for pattern in unused):
            raise unlike(expert, f'tensor "{name}" is no part of a model of this family.')
        elif known is None or not _equal(own, known):
            ignored.append(name)
    if ignored:
        log.warning(
            '%s: %d of its tensors (the first is "%s") are not the base\'s, and are neither merged nor used. If they were '
            "tuned, the results are not those of this expert.",
            expert.label,
            len(ignored),
            ignored[0],
        )


def warn_of_task_vector(expert: Checkpoint, base: Checkpoint) -> None:
    """Warns of an expert that lies further from the base than fine-tuning takes a model, or not away from it at all.

    Both have the same layout.
    """
    ratio = task_vector_ratio(expert, base)
    if ratio == 0:
        log.warning("%s: its weights are the base's, so it adds nothing to a merge. Was it fine-tuned?", expert.label)
    if ratio > UNUSUAL_TASK_VECTOR:
        log.warning(
            "%s: its task vector is %.2f times as long as the base's weights (||expert - base|| / ||base||); after fine-tuning "
            "it is some hundredths, for a model of the same shapes trained on its own 1.41. Was it tuned from this base?",
            expert.label,
            ratio,
        )


def task_vector_ratio(expert: Checkpoint, base: Checkpoint) -> float:
    """||expert - base|| / ||base|| over all floating-point tensors of two and more dimensions, tensor by tensor."""
    moved = norm = 0.0
    for name, known in base.items():
        if known.ndim >= 2 and known.is_floating_point():
            known = known.double()
            moved += (expert.tensor(name).double() - known).square().sum().item()
            norm += known.square().sum().item()
    return math.sqrt(moved / norm) if norm else 0.0


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, float) or isinstance(second, float):
        return math.isclose(first, second, rel_tol=ROUNDING)
    return first == second


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors hold the same numbers, as far as the less precise of their types tells them apart."""
    import torch

    if first.shape != second.shape or not (first.is_floating_point() and second.is_floating_point()):
        return torch.equal(first, second)
    coarse = max(first.dtype, second.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    return torch.equal(first.to(coarse), second.to(coarse))


def _check_shared(name: str, own: torch.Tensor, known: torch.Tensor | None, expert: Checkpoint) -> None:
    remedy = f"It is not merged, and heads use the base's: tune experts with it frozen, or take it out of {expert.origin}."
    if known is None or own.shape != known.shape:
        shape = "has none" if known is None else f"has shape {tuple(known.shape)}"
        raise DataError(f'"{name}" has shape {tuple(own.shape)}, the base {shape}.', where=expert.label, remedy=remedy)
    if not _equal(own, known):
        relative = ((own.double() - known.double()).norm() / known.double().norm()).item()
        what = f'"{name}" differs from the base\'s, by {relative:.2g} of its norm.'
        raise DataError(what, where=expert.label, remedy=remedy)


def _other_tokenizer(what: str, file: Path, label: str) -> DataError:
    remedy = f"All models of a suite have the base's tokenizer: is the model of {file.resolve()} tuned from this base?"
    return DataError(f"{what}.", where=f"{label}, tokenizer", remedy=remedy)


def _tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises no narrower class
        raise DataError(f"not a tokenizer ({error}).", where=str(path.resolve()), remedy="Replace it or remove it.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
