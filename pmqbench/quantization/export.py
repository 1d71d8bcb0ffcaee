"""A quantized model as a folder that stock transformers loads: packed weights, config, processor or tokenizer, model card.

`compressed-tensors` unpacks it while it loads (`dequantize: true`, which asymmetric grids and T5 need). No torch here: the
weights are packed already (`packing.py`); an export puts a config beside them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmqbench.families.files import Deployed
from pmqbench.files import atomic_path, write_json, write_text
from pmqbench.quantization.base import UNROUNDED

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def quantization_config(options: Mapping[str, Any], unquantized: tuple[str, ...]) -> dict[str, Any]:
    """`quantization_config` of a model whose linear layers all have one grid.

    Args:
        options: the quantizer's: bits, group_size (None: one scale per output channel), symmetric.
        unquantized: linear modules that stay as they are.
    """
    group = options["group_size"]
    weights = {
        "num_bits": options["bits"],
        "type": "int",
        "symmetric": options["symmetric"],
        "strategy": "channel" if group is None else "group",
        "group_size": group,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": list(unquantized),
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "dequantize": True,
    }


def export_model(folder: Path, packed: Path, deployed: Deployed, options: Mapping[str, Any], card: str) -> None:
    """Writes the folder, each file whole or not at all; the weights last.

    Args:
        folder: where to.
        packed: the packed weights.
        deployed: what the family says of its models in transformers' layout.
        options: the quantizer's; at 16 bits nothing was rounded, and the folder is a plain checkpoint.
        card: the model card.
    """
    config = {**deployed.config, "dtype": "float32"}
    if options["bits"] != UNROUNDED:
        config["quantization_config"] = quantization_config(options, deployed.unquantized)
    for name, content in deployed.files.items():
        write_text(folder / name, content)
    write_json(folder / CONFIG, config)
    write_text(folder / CARD, card)
    with atomic_path(folder / WEIGHTS) as temporary:
        shutil.copyfile(packed, temporary)
