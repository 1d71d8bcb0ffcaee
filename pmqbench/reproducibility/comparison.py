"""Two results folders, compared file by file.

A file of both has the *same bytes*, the *same values* (all but what is measured), the same by *other code*, or is *different*.
"""

from __future__ import annotations

import filecmp
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, get_args

from pmqbench.errors import DataError
from pmqbench.reproducibility import CODE, LEFT_OUT
from pmqbench.reproducibility.contents import contents

Verdict = Literal["same bytes", "same values", "other code", "different", "only in one"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
SAME = VERDICTS[:3]
MISSING = "nothing"


@dataclass(frozen=True)
class Compared:
    """A file of two runs.

    Attributes:
        name: its path below results/.
        verdict: one of VERDICTS.
        places: how many values differ; 0 where formats are compared by their bytes.
        where: the first of them.
        values: what stands there in each of the runs.
        largest: largest difference of two numbers; None if no numbers differ.
    """

    name: str
    verdict: Verdict
    places: int = 0
    where: str = ""
    values: tuple[str, str] = ("", "")
    largest: float | None = None

    @property
    def stage(self) -> str:
        """The folder below results/ that it is in."""
        return self.name.split(os.sep, 1)[0] if os.sep in self.name else "results"

    @property
    def same(self) -> bool:
        """Whether the runs agree in it."""
        return self.verdict in SAME


def compare_folders(first: Path, second: Path) -> list[Compared]:
    """Every file of two results folders, by name; DataError for a folder without results."""
    one, other = (result_files(folder) for folder in (first, second))
    found = []
    for name in sorted(one | other):
        if name in one and name in other:
            found.append(compare_files(first / name, second / name, name))
        else:
            found.append(Compared(name, "only in one", where=str(first if name in one else second)))
    return found


def result_files(folder: Path) -> set[str]:
    """Paths below a results folder of all that is compared."""
    found = set()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith(".")]
        kept = [name for name in files if name not in LEFT_OUT and not name.startswith(".")]
        found |= {os.path.relpath(os.path.join(place, name), folder) for name in kept}
    if not found:
        raise DataError("there are no results.", where=str(folder), remedy="Name the folder results/ of a run.")
    return found


def compare_files(first: Path, second: Path, name: str) -> Compared:
    """One file of two runs."""
    if filecmp.cmp(first, second, shallow=False):
        return Compared(name, "same bytes")
    one, other = contents(first), contents(second)
    if one is None or other is None:
        return Compared(name, "different", where="its bytes")
    everything = list(_differences(one, other))
    differing = [place for place in everything if place[0].rsplit(".", 1)[-1] != CODE]
    if not differing:
        return Compared(name, "other code" if everything else "same values")
    where, pair, _ = differing[0]
    sizes = [size for *_, size in differing if size is not None]
    largest = max(sizes, default=None)
    return Compared(name, "different", len(differing), where, tuple(map(_shown, pair)), largest)


def _differences(one: Iterator[Any], other: Iterator[Any]) -> Iterator[tuple[str, tuple[Any, Any], float | None]]:
    """(where, both values, how far apart they are) of each value that differs; what is told last is how much there is."""
    for (place, value), (place_there, value_there) in zip_longest(one, other, fillvalue=(MISSING, MISSING)):
        if place != place_there:
            yield f"{place} / {place_there}", (value, value_there), None
            return  # from here on values do not face each other
        if (size := _apart(value, value_there)) != 0:
            yield place, (value, value_there), size


def _apart(one: Any, other: Any) -> float | None:
    """0 for equal values, else how far apart two numbers, or the farthest numbers of two tensors, are; None for others."""
    import torch

    if isinstance(one, torch.Tensor):
        return float((one - other).abs().max()) if one.shape == other.shape and one.numel() else 0.0
    if isinstance(one, bytes | str | bool) or one is None or type(one) is not type(other):
        return 0.0 if one == other else None
    if isinstance(one, float) and math.isnan(one) and math.isnan(other):
        return 0.0
    return abs(one - other) if isinstance(one, int | float) else (0.0 if one == other else None)


def _shown(value: Any) -> str:
    import torch

    text = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
