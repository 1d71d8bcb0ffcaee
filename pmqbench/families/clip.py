"""The clip family: CLIP models as transformers stores them, CLIPModel (a base) and CLIPVisionModel (experts).

transformers >= 5 dropped the prefix `vision_model.` from CLIPVisionModel's keys; both forms read. An open_clip checkpoint of
the same tower is rewritten in this layout when it is brought in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.checkpoints import Checkpoint, Slot, save_checkpoint
from pmqbench.errors import DataError
from pmqbench.families import open_clip
from pmqbench.families.base import FAMILIES
from pmqbench.families.files import Deployed, ModelFiles, link
from pmqbench.families.vision_config import VisionConfig, deployed_tower, stored_config, stored_preprocessor, tower_names
from pmqbench.files import read_json, write_json

if TYPE_CHECKING:
    import torch

    from pmqbench.families.vit import VisionTower

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
PREFIX = "vision_model."

# transformers leaves out of a saved config what equals the class's default: these are CLIPVisionConfig's (ViT-B/32).
DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's CLIP


@FAMILIES.register("clip")
@dataclass(frozen=True)
class Clip(ModelFiles):
    """Family of transformers' CLIPModel and CLIPVisionModel."""

    weights_file = WEIGHTS
    config_file = CONFIG
    base_files = (PREPROCESSOR, *TOKENIZER)
    exported_files = (PREPROCESSOR,)
    protocol = "zero_shot"

    def needed(self, names: Collection[str], base: bool, where: str) -> list[str]:
        """See ModelFiles; falls back on open_clip's pair of files."""
        if WEIGHTS not in names and {open_clip.WEIGHTS, open_clip.CONFIG} <= set(names):
            return [open_clip.WEIGHTS, open_clip.CONFIG]
        return super().needed(names, base, where)

    def bring(self, files: Mapping[str, Path], folder: Path) -> None:
        """See ModelFiles; an open_clip checkpoint's tower is rewritten, and the whole kept beside it for the text head."""
        if open_clip.WEIGHTS not in files:
            super().bring(files, folder)
            return
        for name, path in files.items():
            link(path, folder / name)
        config = read_json(folder / open_clip.CONFIG)
        save_checkpoint(folder / WEIGHTS, dict(open_clip.OpenClip().checkpoint(folder).items()))
        write_json(folder / CONFIG, stored_config(vision_config(config)))
        write_json(folder / PREPROCESSOR, stored_preprocessor(vision_config(config)))

    def checkpoint(self, folder: Path, label: str = "") -> Checkpoint:
        """See Family."""
        path = Path(folder) / WEIGHTS
        names = list(tower_names(read_config(folder)))
        prefix = PREFIX if f"{PREFIX}{names[0]}" in Checkpoint(path, label=label) else ""
        return Checkpoint(path, {name: Slot(prefix + name) for name in names}, label)

    def save(self, folder: Path, tensors: Mapping[str, torch.Tensor], config_from: Path, metadata: Mapping[str, str]) -> None:
        """See Family."""
        folder, config_from = Path(folder), Path(config_from)
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(folder / WEIGHTS, tensors, {"format": "pt", **metadata})
        write_json(folder / CONFIG, stored_config(read_config(config_from)))
        write_json(folder / PREPROCESSOR, stored_preprocessor(read_config(config_from)))

    def build(self, folder: Path, label: str = "") -> VisionTower:
        """See Family."""
        from pmqbench.families.vit import build_tower

        return build_tower(read_config(folder), self.checkpoint(folder, label))

    def linear_shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """See Family."""
        return vision_config(config).linear_shapes()

    def deployed(self, folder: Path, base: Path) -> Deployed:
        """See Family."""
        return deployed_tower(read_config(folder))

    def head(self, base: Path, classnames: list[str], templates: list[str]) -> dict[str, torch.Tensor]:
        """See Family; needs the whole CLIP and its tokenizer in `base`."""
        if (Path(base) / open_clip.WEIGHTS).is_file():
            return open_clip.OpenClip().head(base, classnames, templates)
        from pmqbench.families.clip_text import zero_shot_head

        return zero_shot_head(Path(base), classnames, templates)


def read_config(folder: Path) -> VisionConfig:
    """The tower's shape and pixel normalisation from the files of a folder."""
    path = Path(folder) / PREPROCESSOR
    return vision_config(read_json(Path(folder) / CONFIG), read_json(path) if path.is_file() else {})


def vision_config(config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None = None) -> VisionConfig:
    """VisionConfig from the config of a CLIPModel, a CLIPVisionModel or an open_clip model.

    Raises:
        DataError: not a CLIP, or an activation this tower does not have.
    """
    if "model_cfg" in config:
        return open_clip.vision_config(config)
    vision = {**DEFAULTS, **config.get("vision_config", config), **(config.get("vision_config_dict") or {})}
    kind, activation = config.get("model_type", "clip"), vision["hidden_act"]
    if kind not in ("clip", "clip_vision_model") or activation not in ("gelu", "quick_gelu"):
        what = f'model_type "{kind}" with hidden_act "{activation}" is no CLIP vision tower.'
        raise DataError(what, where=CONFIG, remedy="Use a CLIPModel or CLIPVisionModel, or another `family`.")
    constants = preprocessor or {}
    return VisionConfig(
        width=vision["hidden_size"],
        layers=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        mlp_width=vision["intermediate_size"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        activation=activation,
        eps=vision["layer_norm_eps"],
        mean=tuple(constants.get("image_mean", MEAN)),
        std=tuple(constants.get("image_std", STD)),
    )
