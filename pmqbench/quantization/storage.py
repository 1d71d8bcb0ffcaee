"""Codes on disk, and the size that a quantized layer takes in the export format."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from pathlib import Path

import torch

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.quantization.grid import LayerCodes

WORD_BITS = 32  # pack-quantized packs codes into int32 words
SHAPE_BYTES = 16  # two int64


def save_codes(path: str | Path, codes: Mapping[str, LayerCodes]) -> None:
    """Writes `<layer>.codes`, `.scale`, `.zero` (asymmetric only) and `.bits` of every layer to a safetensors file."""
    tensors: dict[str, torch.Tensor] = {}
    for layer, coded in codes.items():
        tensors |= {f"{layer}.codes": coded.codes, f"{layer}.scale": coded.scale, f"{layer}.bits": torch.tensor(coded.bits)}
        if coded.zero is not None:
            tensors[f"{layer}.zero"] = coded.zero
    save_checkpoint(path, tensors)


def load_codes(path: str | Path) -> dict[str, LayerCodes]:
    """Reads what `save_codes` wrote; DataError for a file that is missing, damaged or lacks a tensor."""
    file = Checkpoint(path)
    layers = [name.removesuffix(".codes") for name in file.names() if name.endswith(".codes")]
    return {
        layer: LayerCodes(
            int(file.tensor(f"{layer}.bits")),
            file.tensor(f"{layer}.codes"),
            file.tensor(f"{layer}.scale"),
            file.tensor(f"{layer}.zero") if f"{layer}.zero" in file else None,
        )
        for layer in layers
    }


def packed_bytes(codes: Mapping[str, LayerCodes]) -> int:
    """Bytes of the layers' weights in compressed-tensors' pack-quantized layout; biases not counted.

    Each row's codes as a dense bit stream in int32 words, float32 scales, zero points packed down the rows in int32 words
    (asymmetric only), and the shape as two int64.
    """
    return sum(_layer_bytes(coded) for coded in codes.values())


def _layer_bytes(coded: LayerCodes) -> int:
    (rows, width), groups = coded.codes.shape, coded.scale.shape[1]
    words = rows * ceil(width * coded.bits / WORD_BITS)
    zero_words = 0 if coded.zero is None else ceil(rows * coded.bits / WORD_BITS) * groups
    return 4 * (words + rows * groups + zero_words) + SHAPE_BYTES
