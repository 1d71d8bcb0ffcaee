"""Whether a task's splits are disjoint: by the files that hold them, and by the content of their examples."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pmqbench.errors import DataError
from pmqbench.tasks.splits import read_images

log = logging.getLogger(__name__)

REMEDY = (
    "Check `splits` of the task's source; if you mean it, set `allow_overlap: true` beside `splits`, and reports will say so."
)


def check_files(files: Mapping[str, Sequence[Path]], where: str) -> None:
    """Raises DataError if one file holds examples of two splits, under whatever names.

    Args:
        files: split -> its files or folders; splits that share them by intent are left out.
        where: what messages call the task.
    """
    for (one, ours), (other, theirs) in itertools.combinations(files.items(), 2):
        known = {_identity(path): path for path in ours}
        shared = [(known[_identity(path)], path) for path in theirs if _identity(path) in known]
        if shared:
            what = f"{one} and {other} read the same file: {shared[0][0]} is {shared[0][1]}."
            raise DataError(what, where=where, remedy=REMEDY)


def fingerprints(path: Path) -> np.ndarray:
    """Hashes of the examples of a split's file, uint64 (n,): of the pixels that are kept, of a text without its label."""
    if path.suffix == ".safetensors":
        contents = (np.ascontiguousarray(image).data for batch in read_images(path) for image in batch)
    else:
        contents = map(_unlabelled, path.read_text(encoding="utf-8").split("\n")[:-1])
    return np.array([int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) for content in contents], np.uint64)


def find_overlap(prints: Mapping[str, np.ndarray], allowed: bool, where: str) -> dict[str, dict[str, Any]]:
    """Counts examples of a split that another split has too, and warns of them.

    Args:
        prints: split -> fingerprints of its examples, in the order train, validation, test.
        allowed: whether the task's source says `allow_overlap`.
        where: what messages call the task.

    Returns:
        "test in train" -> {"examples": how many, "share": of the test split}, and so on; pairs that share nothing are left out.

    Raises:
        DataError: a split lies in another one as a whole, and that is not allowed.
    """
    found = {}
    for (other, theirs), (one, ours) in itertools.combinations(prints.items(), 2):
        shared = np.isin(ours, theirs)
        if not shared.any():
            continue
        whole = [name for name, all_of_it in ((one, shared.all()), (other, np.isin(theirs, ours).all())) if all_of_it]
        if whole and not allowed:
            what = f"every example of {whole[0]} is also in {other if whole[0] == one else one}."
            raise DataError(what, where=where, remedy=REMEDY)
        found[f"{one} in {other}"] = {"examples": int(shared.sum()), "share": round(float(shared.mean()), 6)}
        why = "`allow_overlap` lets them" if allowed else "remove them from one of the two, or mention it beside the results"
        message = "%s: %d of %d %s examples (%.2f %%) are also in the %s split; %s."
        log.warning(message, where, shared.sum(), len(ours), one, 100 * shared.mean(), other, why)
    return found


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _unlabelled(line: str) -> bytes:
    row = json.loads(line)
    return json.dumps([row[key] for key in sorted(row) if key not in ("target", "label")], ensure_ascii=False).encode()
