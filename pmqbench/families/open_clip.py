"""The open_clip family: CLIP vision towers stored as open_clip stores them (q, k, v packed in one in_proj).

Reading unpacks in_proj into q, k, v rows without a copy of the file; saving packs them again, exactly. Folders have
open_clip's hub layout: `open_clip_config.json` and `open_clip_model.safetensors` (a whole CLIP, or the `visual.` tensors only).
The projection and the text tower are the base's, for every model of a suite. open_clip itself is imported for heads alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.checkpoints import Checkpoint, Slot, save_checkpoint, unlike
from pmqbench.errors import DataError
from pmqbench.families.base import FAMILIES
from pmqbench.families.files import Deployed, ModelFiles, read_object
from pmqbench.families.open_clip_config import CONFIG, vision_config
from pmqbench.families.vision_config import VisionConfig, deployed_tower, text_parameters, tower_names, warn_of_resizing
from pmqbench.files import copy_file

if TYPE_CHECKING:
    import open_clip
    import torch

    from pmqbench.families.sizes import ModelSize
    from pmqbench.families.vit import VisionTower

WEIGHTS = "open_clip_model.safetensors"
PROJECTION = "visual.proj"
# open_clip.model.CLIPTextCfg's, of which only the size is read here.
TEXT_DEFAULTS = {"width": 512, "layers": 12, "vocab_size": 49408, "context_length": 77}

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
    shared_tensors = (PROJECTION,)
    unused_tensors = (
        "transformer.*",
        "token_embedding.weight",
        "positional_embedding",
        "ln_final.*",
        "text_projection",
        "logit_scale",
        "logit_bias",
    )
    buffers = ("attn_mask",)
    protocol = "zero_shot"

    def bring(self, files: Mapping[str, Path], folder: Path, base: bool) -> None:
        """Linked as they are."""
        super().bring(files, folder, base)
        if base:
            warn_of_resizing(read_config(folder))

    def traits(self, folder: Path) -> dict[str, Any]:
        """The tower's shape and pixel normalisation."""
        return asdict(read_config(folder))

    def checkpoint(self, folder: Path, label: str = "") -> Checkpoint:
        """The tower, q, k and v apart."""
        config = read_config(folder)
        return Checkpoint(Path(folder) / WEIGHTS, {name: slot(name, config.width) for name in tower_names(config)}, label)

    def save(self, folder: Path, tensors: Mapping[str, torch.Tensor], config_from: Path, metadata: Mapping[str, str]) -> None:
        """Packs the tower again, in open_clip's layout, without a projection."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(folder / WEIGHTS, pack(tensors), metadata)
        copy_file(Path(config_from) / CONFIG, folder / CONFIG)

    def build(self, folder: Path, label: str = "") -> VisionTower:
        """The tower with the config's own pixel normalisation."""
        from pmqbench.families.vit import build_tower

        return build_tower(read_config(folder), self.checkpoint(folder, label))

    def linear_shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """Of the vision tower."""
        return vision_config(config).linear_shapes()

    def size(self, config: Mapping[str, Any]) -> ModelSize:
        """Of the vision tower, and of the text tower beside it."""
        vision, model = vision_config(config), config["model_cfg"]
        text = TEXT_DEFAULTS | dict(model.get("text_cfg", {}))
        sizes = (text[key] for key in TEXT_DEFAULTS)
        return vision.size(text_parameters(*sizes, model["embed_dim"], vision.width))

    def deployed(self, folder: Path, base: Path) -> Deployed:
        """In transformers' layout, as a CLIPVisionModel."""
        return deployed_tower(read_config(folder))

    def head(self, base: Path, classnames: list[str], templates: list[str]) -> dict[str, torch.Tensor]:
        """From the base's text tower: `base` must hold the whole CLIP."""
        from open_clip import SimpleTokenizer

        model = load_clip(Path(base))
        return head_of(model, SimpleTokenizer(context_length=model.context_length), classnames, templates)


def read_config(folder: Path) -> VisionConfig:
    """The tower's shape and pixel normalisation from a folder's config."""
    path = Path(folder) / CONFIG
    return vision_config(read_object(path), str(path.resolve()))


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


def load_clip(folder: Path) -> open_clip.CLIP:
    """The whole open_clip model of `folder`, float32, eval mode; DataError if config and weights are not of one model."""
    import open_clip

    read_config(folder)
    checkpoint = Checkpoint(folder / WEIGHTS, label=str((folder / WEIGHTS).resolve()))
    try:
        model = open_clip.CLIP(**read_object(folder / CONFIG)["model_cfg"])
    except TypeError as error:  # a key of text_cfg that open_clip does not take, or one that it needs
        where = str((folder / CONFIG).resolve())
        raise DataError(f"open_clip cannot build this model: {error}.", where=where, remedy="Mend the config.") from error
    unknown = sorted(set(checkpoint.names()) - model.state_dict().keys() - {"attn_mask"})
    if unknown:
        raise unlike(checkpoint, f'tensor "{unknown[0]}" is no part of the model that its config describes.')
    model.load_state_dict(checkpoint.loaded({name: tuple(t.shape) for name, t in model.state_dict().items()}))
    return model.float().eval()


def head_of(
    model: open_clip.CLIP, tokenize: open_clip.SimpleTokenizer, classnames: list[str], templates: list[str]
) -> dict[str, torch.Tensor]:
    """CLIP's zero-shot classifier (Radford et al., 2021): normalised mean over templates of normalised text embeddings.

    Returns:
        classes (classes, dim), projection (dim, width) of the vision tower, logit_scale () already exponentiated.
    """
    import torch

    prompts = [template.format(name) for name in classnames for template in templates]
    with torch.no_grad():
        embeddings = model.encode_text(tokenize(prompts), normalize=True).view(len(classnames), len(templates), -1)
    return {
        "classes": torch.nn.functional.normalize(embeddings.mean(dim=1), dim=-1),
        "projection": model.visual.proj.detach().T.contiguous(),
        "logit_scale": model.logit_scale.detach().exp(),
    }
