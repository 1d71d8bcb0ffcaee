"""Safetensors checkpoints read tensor by tensor, under canonical names, so that no stage holds more models than it must.

A family says how the names and packing of a stored file map to the canonical layout (`Slot`); merging, quantization and
evaluation see canonical names only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from pmqbench.errors import DataError, NumericalError
from pmqbench.files import atomic_path

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Slot:
    """Where a canonical tensor is stored: a tensor's name and, when several are packed in one, the rows it takes."""

    stored: str
    rows: tuple[int, int] | None = None


class Checkpoint:
    """A read-only view of one safetensors file.

    Args:
        path: the file.
        slots: canonical name -> Slot; None takes every stored tensor under its own name.
        label: what messages call it ("expert digits"); the path by default.

    Attributes:
        origin: the file itself, behind the links of a results folder: what a user can mend.
    """

    def __init__(self, path: str | Path, slots: Mapping[str, Slot] | None = None, label: str = "") -> None:
        self.path = Path(path)
        self.label = label or str(path)
        self.origin = self.path.resolve()
        try:
            with self._open() as file:
                self._stored = set(file.keys())
        except FileNotFoundError as error:
            raise DataError("there is no such checkpoint.", where=str(self.origin), remedy="Check the path.") from error
        except (SafetensorError, OSError) as error:
            # Nobody is told to delete a file that the workflow did not write.
            mend = "put a whole copy there" if self.path.is_symlink() else "delete it"
            raise DataError(
                f"not a readable safetensors file ({error}).",
                where=str(self.origin),
                remedy=f"It is corrupted or cut short: {mend} and run again.",
            ) from error
        self._slots = dict(slots) if slots is not None else {name: Slot(name) for name in sorted(self._stored)}

    def _open(self) -> safe_open:
        # Per read (0.1 ms): an open file keeps every page read so far mapped, so that all experts would count as resident.
        return safe_open(str(self.path), framework="pt")

    def names(self) -> list[str]:
        """Canonical names, in the order of the family's layout."""
        return list(self._slots)

    def __contains__(self, name: str) -> bool:
        return name in self._slots and self._slots[name].stored in self._stored

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor as stored (no dtype change); DataError names this checkpoint and the tensor if it is missing."""
        slot = self._slot(name)
        with self._open() as file:
            if slot.rows is None or not file.get_slice(slot.stored).get_shape():  # a single number has no rows
                return file.get_tensor(slot.stored)
            return file.get_slice(slot.stored)[slot.rows[0] : slot.rows[1]]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor, read from the header; DataError as for `tensor`."""
        slot = self._slot(name)
        with self._open() as file:
            shape = tuple(file.get_slice(slot.stored).get_shape())
        return shape if slot.rows is None or not shape else (max(0, min(slot.rows[1], shape[0]) - slot.rows[0]), *shape[1:])

    def _slot(self, name: str) -> Slot:
        if name not in self:
            raise DataError(
                f'tensor "{name}" is missing.',
                where=self.label,
                remedy=f"Is {self.origin} a checkpoint of the suite's architecture?",
            )
        return self._slots[name]

    def left_over(self) -> list[str]:
        """Names of the stored tensors that no canonical tensor is read from."""
        return sorted(self._stored - {slot.stored for slot in self._slots.values()})

    def left_over_tensor(self, stored: str) -> torch.Tensor | None:
        """A stored tensor by the file's own name; None if there is none."""
        if stored not in self._stored:
            return None
        with self._open() as file:
            return file.get_tensor(stored)

    def loaded(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        """The tensors named in `shapes`, float32, for a model of these shapes.

        Raises:
            DataError: a tensor is missing or of another shape.
            NumericalError: a tensor holds NaN or Inf.
        """
        state = {}
        for name, shape in shapes.items():
            tensor = self.tensor(name).float()
            if tuple(tensor.shape) != tuple(shape):
                raise DataError(
                    f'tensor "{name}" has shape {tuple(tensor.shape)}, the config says {tuple(shape)}.',
                    where=self.label,
                    remedy="Weights and config are of different models.",
                )
            check_finite(tensor, f"{self.label}: {name}")
            state[name] = tensor
        return state

    def metadata(self) -> dict[str, str]:
        """What the file says of itself, beside its tensors."""
        with self._open() as file:
            return dict(file.metadata() or {})

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(canonical name, tensor) one after the other."""
        for name in self.names():
            yield name, self.tensor(name)


def check_same_layout(checkpoint: Checkpoint, base: Checkpoint) -> None:
    """Raises DataError if `checkpoint` has not the base's tensors, shape by shape; reads headers only."""
    check_complete(checkpoint)
    own, known = set(checkpoint.names()), set(base.names())
    for name in checkpoint.names():
        if name not in known:
            raise unlike(checkpoint, f'tensor "{name}" is not in the base ({base.label}).')
    for name in base.names():
        if name not in own:
            raise unlike(checkpoint, f'tensor "{name}" is missing.')
        if checkpoint.shape(name) != base.shape(name):
            raise unlike(checkpoint, f'tensor "{name}" has shape {checkpoint.shape(name)}, in the base {base.shape(name)}.')


def check_complete(checkpoint: Checkpoint) -> None:
    """Raises DataError if a tensor of the checkpoint's own layout is not in its file."""
    for name in checkpoint.names():
        if name not in checkpoint:
            raise unlike(checkpoint, f'tensor "{name}" is missing.')


def unlike(checkpoint: Checkpoint, what: str) -> DataError:
    """The error of a checkpoint that is not like the suite's base."""
    remedy = f"Is {checkpoint.origin} of the suite's architecture, tuned from its base?"
    return DataError(what, where=checkpoint.label, remedy=remedy)


def check_finite(tensor: torch.Tensor, where: str) -> None:
    """Raises NumericalError naming `where` if a floating-point tensor holds NaN or Inf."""
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        bad = int((~tensor.isfinite()).sum())
        raise NumericalError(
            f"{bad} of {tensor.numel()} values are NaN or Inf.",
            where=where,
            remedy="The checkpoint is damaged or its training diverged: replace it.",
        )


def save_checkpoint(path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file whole or not at all; equal tensors and metadata give equal bytes."""
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, str(temporary), metadata=dict(metadata or {})
        )
        if metadata:
            _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Writes a safetensors file's header anew with its metadata sorted: the library's order is that of a hash map, by chance.

    A file is the header's length (8 bytes, little-endian), the header (JSON, filled up with spaces) and the tensors' bytes.
    """
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        sorted_header = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(sorted_header) != length:
            raise RuntimeError(f"{path}: the header of {length} bytes became one of {len(sorted_header)}")
        file.seek(8)
        file.write(sorted_header)
