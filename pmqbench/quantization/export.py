"""A quantized model as a folder that stock transformers loads: packed weights, config, processor or tokenizer, model card.

`compressed-tensors` unpacks it while it loads (`dequantize: true`, which asymmetric grids and T5 need, and which knows one
width for all layers), or at the first forward pass. No torch here: the weights are packed already (`packing.py`); an export
puts a config beside them.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from pmqbench.families.files import Deployed
from pmqbench.files import copy_file, write_json, write_text

log = logging.getLogger(__name__)

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def quantization_config(options: Mapping[str, Any], widths: Mapping[str, int], unquantized: tuple[str, ...]) -> dict[str, Any]:
    """`quantization_config` of a model: one config group for all linear layers, or one a width that names its layers.

    Layers of several widths stay packed until the first forward pass: transformers would unpack all by the first group.

    Args:
        options: the quantizer's: group_size (None: one scale per output channel), symmetric.
        widths: bits of every quantized layer's codes.
        unquantized: linear modules that stay as they are.
    """
    used = sorted(set(widths.values()))
    targets = {
        bits: ["Linear"] if len(used) == 1 else [layer for layer, width in widths.items() if width == bits] for bits in used
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": list(unquantized),
        "config_groups": {
            f"group_{index}": {"targets": layers, "weights": _scheme(options, bits)}
            for index, (bits, layers) in enumerate(targets.items())
        },
        "dequantize": len(used) == 1,
    }


def _scheme(options: Mapping[str, Any], bits: int) -> dict[str, Any]:
    group = options["group_size"]
    return {
        "num_bits": bits,
        "type": "int",
        "symmetric": options["symmetric"],
        "strategy": "channel" if group is None else "group",
        "group_size": group,
    }


def packed_widths(packed: Path) -> dict[str, int]:
    """Bits of every layer's codes in a file that `packing.save_packed` wrote, by name; none at 16 bits."""
    with safe_open(str(packed), framework="np") as file:
        metadata = file.metadata()
    return {name.removesuffix(".bits"): int(bits) for name, bits in sorted(metadata.items()) if name.endswith(".bits")}


@contextmanager
def exported_weights(packed: Path, deployed: Deployed, options: Mapping[str, Any]) -> Iterator[Path]:
    """The weights that an export holds: `packed` itself, or, while the context lasts, a copy with all codes at one width.

    Transformers reads layers of several widths where grids are symmetric and the model can run packed. Elsewhere all layers'
    codes take the room of the widest; the weights that they stand for are the same.
    """
    widths = sorted(set(packed_widths(packed).values()))
    if len(widths) < 2 or (options["symmetric"] and deployed.runs_packed):
        yield packed
        return
    from pmqbench.quantization.packing import widen

    log.warning(
        "%s: layers of %s bits are exported at %d; transformers reads several widths only of symmetric grids, and of T5 never.",
        packed.parent.name,
        ", ".join(map(str, widths)),
        widths[-1],
    )
    with tempfile.TemporaryDirectory() as folder:
        yield widen(packed, Path(folder) / WEIGHTS)


def export_model(folder: Path, packed: Path, deployed: Deployed, options: Mapping[str, Any], card: str) -> None:
    """Writes the folder, each file whole or not at all; the weights last.

    Args:
        folder: where to.
        packed: the weights, as `exported_weights` gives them.
        deployed: what the family says of its models in transformers' layout.
        options: the quantizer's; where nothing was rounded, the folder is a plain checkpoint.
        card: the model card.
    """
    config = {**deployed.config, "dtype": "float32"}
    widths = packed_widths(packed)
    if widths:
        config["quantization_config"] = quantization_config(options, widths, deployed.unquantized)
    for name, content in deployed.files.items():
        write_text(folder / name, content)
    write_json(folder / CONFIG, config)
    write_text(folder / CARD, card)
    copy_file(packed, folder / WEIGHTS)
