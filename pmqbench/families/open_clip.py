"""The open_clip family: CLIP vision towers stored as open_clip stores them (q, k, v packed in one in_proj).

Reading unpacks in_proj into q, k, v rows without a copy of the file; saving packs them again, exactly. Folders have
open_clip's hub layout: `open_clip_config.json` and `open_clip_model.safetensors` (a whole CLIP, or the `visual.` tensors only).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.checkpoints import Checkpoint, Slot, save_checkpoint
from pmqbench.errors import DataError
from pmqbench.families.base import FAMILIES
from pmqbench.families.files import Deployed, ModelFiles
from pmqbench.families.vision_config import VisionConfig, deployed_tower, tower_names
from pmqbench.files import read_json

if TYPE_CHECKING:
    import torch

    from pmqbench.families.vit import VisionTower

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"

OUTER = {
    "embeddings.class_embedding": "visual.class_embedding",
    "embeddings.patch_embedding.weight": "visual.conv1.weight",
    "embeddings.position_embedding.weight": "visual.positional_embedding",
    "pre_layrnorm": "visual.ln_pre",
    "post_layernorm": "visual.ln_post",
}
INNER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
PACKED = {"self_attn.q_proj": 0, "self_attn.k_proj": 1, "self_attn.v_proj": 2}


@FAMILIES.register("open_clip")
@dataclass(frozen=True)
class OpenClip(ModelFiles):
    """Family of open_clip models with a plain ViT vision tower (`pool_type: tok`, no attentional pooling, no layer scale)."""

    weights_file = WEIGHTS
    config_file = CONFIG
    exported_files = ("preprocessor_config.json",)
    protocol = "zero_shot"

    def checkpoint(self, folder: Path, label: str = "") -> Checkpoint:
        """See Family."""
        config = vision_config(read_json(Path(folder) / CONFIG))
        return Checkpoint(Path(folder) / WEIGHTS, {name: slot(name, config.width) for name in tower_names(config)}, label)

    def save(self, folder: Path, tensors: Mapping[str, torch.Tensor], config_from: Path, metadata: Mapping[str, str]) -> None:
        """See Family."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(folder / WEIGHTS, pack(tensors), metadata)
        shutil.copyfile(Path(config_from) / CONFIG, folder / CONFIG)

    def build(self, folder: Path, label: str = "") -> VisionTower:
        """See Family."""
        from pmqbench.families.vit import build_tower

        return build_tower(vision_config(read_json(Path(folder) / CONFIG)), self.checkpoint(folder, label))

    def linear_shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """See Family."""
        return vision_config(config).linear_shapes()

    def deployed(self, folder: Path, base: Path) -> Deployed:
        """See Family: transformers' layout."""
        return deployed_tower(vision_config(read_json(Path(folder) / CONFIG)))

    def head(self, base: Path, classnames: list[str], templates: list[str]) -> dict[str, torch.Tensor]:
        """See Family; needs the whole CLIP in `base`."""
        from pmqbench.families.open_clip_text import zero_shot_head

        return zero_shot_head(Path(base), classnames, templates)


def vision_config(config: Mapping[str, Any]) -> VisionConfig:
    """VisionConfig from an open_clip config ({"model_cfg": ..., "preprocess_cfg": ...}); refuses towers of another kind."""
    model, vision = config["model_cfg"], config["model_cfg"]["vision_cfg"]
    foreign = [key for key in ("timm_model_name", "attentional_pool", "ls_init_value", "no_ln_pre") if vision.get(key)]
    if foreign or isinstance(vision["layers"], list) or vision.get("pool_type", "tok") != "tok":
        raise DataError(
            f"this open_clip vision tower is not a plain ViT ({', '.join(foreign) or 'layers, pool_type'}).",
            where=CONFIG,
            remedy="Use a ViT of the OpenAI kind, e.g. ViT-B-32.",
        )
    preprocess = config["preprocess_cfg"]
    return VisionConfig(
        width=vision["width"],
        layers=vision["layers"],
        heads=vision["width"] // vision.get("head_width", 64),
        mlp_width=int(vision["width"] * vision.get("mlp_ratio", 4.0)),
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
        eps=1e-5,
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
    )


def slot(name: str, width: int) -> Slot:
    """Where open_clip stores the canonical tensor `name`."""
    if name in OUTER:
        return Slot(OUTER[name])
    module, part = name.rsplit(".", 1)
    if module in OUTER:
        return Slot(f"{OUTER[module]}.{part}")
    _, _, index, inner = module.split(".", 3)
    prefix = f"visual.transformer.resblocks.{index}."
    if inner in PACKED:
        start = PACKED[inner] * width
        return Slot(f"{prefix}attn.in_proj_{part}", (start, start + width))
    return Slot(f"{prefix}{INNER[inner]}.{part}")


def unpack(stored: Mapping[str, torch.Tensor], config: VisionConfig) -> dict[str, torch.Tensor]:
    """What `pack` packed, from tensors in memory: canonical names, q, k, v apart."""
    slots = {name: slot(name, config.width) for name in tower_names(config)}
    return {
        name: stored[where.stored][slice(*where.rows)] if where.rows else stored[where.stored] for name, where in slots.items()
    }


def pack(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Canonical tensors -> open_clip's names, q, k, v stacked into in_proj in that order."""
    import torch

    width = len(tensors["embeddings.class_embedding"])
    slots = {name: slot(name, width) for name in tensors}
    packed = {where.stored: tensors[name] for name, where in slots.items() if where.rows is None}
    rows: dict[str, dict[int, torch.Tensor]] = {}
    for name, where in slots.items():
        if where.rows is not None:
            rows.setdefault(where.stored, {})[where.rows[0]] = tensors[name]
    return packed | {stored: torch.cat([parts[start] for start in sorted(parts)]) for stored, parts in rows.items()}
