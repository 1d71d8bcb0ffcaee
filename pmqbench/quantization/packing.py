"""Quantized models as files: compressed-tensors' pack-quantized layout, written and read here.

A row's codes are a dense little-endian bit stream in int32 words: element i starts at bit i * bits, so odd widths straddle
words. Codes are stored as unsigned numbers. What is not quantized stands beside them under its own name, in its own type.
The file's metadata tell the width of every layer's codes: {"<layer>.bits": "4"}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pmqbench.checkpoints import Checkpoint, check_finite, save_checkpoint
from pmqbench.errors import DataError
from pmqbench.quantization.grid import LayerCodes

WORD_BITS = 32
PACKED, SCALE, ZERO, SHAPE = "weight_packed", "weight_scale", "weight_zero_point", "weight_shape"
DTYPES = {PACKED: torch.int32, SCALE: torch.float32, ZERO: torch.int32, SHAPE: torch.int64}
BITS = "bits"
WIDTHS = frozenset("12345678")


def pack(codes: Tensor, bits: int) -> Tensor:
    """Unsigned codes (rows, n), uint8 below 2^bits -> int32 (rows, ceil(n * bits / 32))."""
    numbers = codes.numpy()
    stream = (numbers[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    packed = np.packbits(stream.reshape(len(numbers), -1), axis=1, bitorder="little")
    words = _words(numbers.shape[1], bits)
    padded = np.pad(packed, ((0, 0), (0, 4 * words - packed.shape[1])))
    return torch.from_numpy(padded.view("<i4").astype(np.int32))


def unpack(words: Tensor, bits: int, count: int) -> Tensor:
    """What `pack` packed: uint8 (rows, count)."""
    stored = np.ascontiguousarray(words.numpy()).astype("<i4").view(np.uint8)
    stream = np.unpackbits(stored, axis=1, count=count * bits, bitorder="little").reshape(len(stored), count, bits)
    return torch.from_numpy(np.packbits(stream, axis=2, bitorder="little")[..., 0])


def packed_layer(coded: LayerCodes) -> dict[str, Tensor]:
    """A layer's tensors by name; scales are per group (out, groups), zero points packed along the outputs."""
    shift = 0 if coded.zero is not None else 2 ** (coded.bits - 1)
    tensors = {
        PACKED: pack((coded.codes.to(torch.int16) + shift).to(torch.uint8), coded.bits),
        SCALE: coded.scale,
        SHAPE: torch.tensor(coded.codes.shape, dtype=torch.int64),
    }
    return tensors if coded.zero is None else tensors | {ZERO: pack(coded.zero.T.contiguous(), coded.bits).T.contiguous()}


def save_packed(path: str | Path, tensors: Mapping[str, Tensor], codes: Mapping[str, LayerCodes]) -> int:
    """Writes a quantized model whole or not at all.

    Args:
        path: the safetensors file.
        tensors: every tensor of the model, dequantized; those that `codes` gives are left out.
        codes: by layer; none at 16 bits.

    Returns:
        The file's size in bytes.
    """
    packed = {name: tensor for name, tensor in tensors.items() if name.removesuffix(".weight") not in codes}
    for layer, coded in codes.items():
        packed |= {f"{layer}.{name}": tensor for name, tensor in packed_layer(coded).items()}
    save_checkpoint(path, packed, {"format": "pt", **{f"{layer}.{BITS}": str(coded.bits) for layer, coded in codes.items()}})
    return Path(path).stat().st_size


def load_codes(path: str | Path) -> dict[str, LayerCodes]:
    """Codes by layer of a file that `save_packed` wrote; DataError for one that is missing, damaged or foreign."""
    file = Checkpoint(path)
    layers = [name.removesuffix(f".{PACKED}") for name in file.names() if name.endswith(f".{PACKED}")]
    metadata = file.metadata()
    return {layer: _unpacked_layer(file, layer, metadata.get(f"{layer}.{BITS}", "")) for layer in layers}


def widen(path: str | Path, to: Path) -> Path:
    """Copies a file that `save_packed` wrote to `to`, with every layer's codes at the width of the widest: the same weights."""
    codes, file = load_codes(path), Checkpoint(path)
    bits = max(coded.bits for coded in codes.values())
    parts = {f"{layer}.{name}" for layer in codes for name in (PACKED, SCALE, ZERO, SHAPE)}
    others = {name: file.tensor(name) for name in file.names() if name not in parts}
    save_packed(to, others, {layer: replace(coded, bits=bits) for layer, coded in codes.items()})
    return to


def _unpacked_layer(file: Checkpoint, layer: str, stated: str) -> LayerCodes:
    """A layer's codes, `stated` bits wide; DataError if its parts do not fit each other."""
    if stated not in WIDTHS:
        what = (
            f'its metadata say that a code of {layer} has "{stated:.20}" bits.'
            if stated
            else f"its metadata lack {layer}.{BITS}."
        )
        raise _unfit(file, what)
    bits, names = int(stated), [PACKED, SCALE, SHAPE, *([ZERO] if f"{layer}.{ZERO}" in file else [])]
    parts = {name: file.tensor(f"{layer}.{name}") for name in names}
    rows, width = parts[SHAPE].tolist() if parts[SHAPE].shape == (2,) else (0, 0)
    scale = parts[SCALE]
    groups = scale.shape[1] if scale.ndim == 2 else 0
    expected = {PACKED: (rows, _words(width, bits)), SCALE: (rows, groups), SHAPE: (2,), ZERO: (_words(rows, bits), groups)}
    wrong = [name for name, part in parts.items() if tuple(part.shape) != expected[name] or part.dtype != DTYPES[name]]
    if min(rows, width, groups) < 1 or width % groups:
        wrong.append(SHAPE)
    if wrong:
        told = ", ".join(f"{name} {part.dtype} {tuple(part.shape)}" for name, part in parts.items())
        raise _unfit(file, f"the parts of {layer} do not fit each other: {told}, {rows} rows of {width} codes.")
    check_finite(scale, f"{file.path}: {layer}.{SCALE}")
    codes = unpack(parts[PACKED], bits, width)
    if ZERO in parts:
        return LayerCodes(bits, codes, scale, unpack(parts[ZERO].T, bits, rows).T.contiguous())
    return LayerCodes(bits, (codes.to(torch.int16) - 2 ** (bits - 1)).to(torch.int8), scale, None)


def _words(count: int, bits: int) -> int:
    return ceil(count * bits / WORD_BITS)


def _unfit(file: Checkpoint, what: str) -> DataError:
    return DataError(what, where=str(file.path), remedy="Delete its folder and quantize again.")
