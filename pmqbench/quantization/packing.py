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

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.errors import DataError
from pmqbench.quantization.grid import LayerCodes

WORD_BITS = 32
PACKED, SCALE, ZERO, SHAPE = "weight_packed", "weight_scale", "weight_zero_point", "weight_shape"
BITS = "bits"


def pack(codes: Tensor, bits: int) -> Tensor:
    """Unsigned codes (rows, n), uint8 below 2^bits -> int32 (rows, ceil(n * bits / 32))."""
    numbers = codes.numpy()
    stream = (numbers[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    packed = np.packbits(stream.reshape(len(numbers), -1), axis=1, bitorder="little")
    words = ceil(numbers.shape[1] * bits / WORD_BITS)
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
    for layer in layers:
        if f"{layer}.{BITS}" not in metadata:
            what = f"its metadata do not say how many bits a code of {layer} has."
            raise DataError(what, where=str(path), remedy="Quantize again.")
    return {layer: _unpacked_layer(file, layer, int(metadata[f"{layer}.{BITS}"])) for layer in layers}


def widen(path: str | Path, to: Path) -> Path:
    """Copies a file that `save_packed` wrote to `to`, with every layer's codes at the width of the widest: the same weights."""
    codes, file = load_codes(path), Checkpoint(path)
    bits = max(coded.bits for coded in codes.values())
    parts = {f"{layer}.{name}" for layer in codes for name in (PACKED, SCALE, ZERO, SHAPE)}
    others = {name: file.tensor(name) for name in file.names() if name not in parts}
    save_packed(to, others, {layer: replace(coded, bits=bits) for layer, coded in codes.items()})
    return to


def _unpacked_layer(file: Checkpoint, layer: str, bits: int) -> LayerCodes:
    rows, width = file.tensor(f"{layer}.{SHAPE}").tolist()
    codes = unpack(file.tensor(f"{layer}.{PACKED}"), bits, width)
    scale = file.tensor(f"{layer}.{SCALE}")
    if f"{layer}.{ZERO}" in file:
        return LayerCodes(bits, codes, scale, unpack(file.tensor(f"{layer}.{ZERO}").T, bits, rows).T.contiguous())
    return LayerCodes(bits, (codes.to(torch.int16) - 2 ** (bits - 1)).to(torch.int8), scale, None)
