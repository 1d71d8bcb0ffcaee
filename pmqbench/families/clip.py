"""The clip family: CLIP models as transformers stores them, CLIPModel (a base) and CLIPVisionModel (experts).

transformers >= 5 dropped the prefix `vision_model.` from CLIPVisionModel's keys; both forms read. An open_clip checkpoint of
the same tower is rewritten in this layout when it is brought in. The projection and the text tower are the base's, for every
model of a suite. transformers is imported for heads alone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.checkpoints import Checkpoint, Slot, save_checkpoint
from pmqbench.errors import DataError
from pmqbench.families import open_clip
from pmqbench.families.base import FAMILIES
from pmqbench.families.contract import check_left_over
from pmqbench.families.files import TOKENIZER, Deployed, ModelFiles, link, read_object
from pmqbench.families.vision_config import (
    VisionConfig,
    checked,
    deployed_tower,
    preprocessing,
    side,
    stored_config,
    stored_preprocessor,
    text_parameters,
    tower_names,
    warn_of_resizing,
)
from pmqbench.files import write_json

if TYPE_CHECKING:
    import torch
    from transformers import CLIPModel, PreTrainedTokenizerBase

    from pmqbench.families.sizes import ModelSize
    from pmqbench.families.vit import VisionTower

log = logging.getLogger(__name__)

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
PROCESSOR = "processor_config.json"
"""Where transformers >= 5 writes the preprocessor of a whole CLIPProcessor."""
TOKENIZERS = ((TOKENIZER,), ("vocab.json", "merges.txt"))
"""Files of which one set makes a tokenizer."""
PREFIX, PROJECTION = "vision_model.", "visual_projection.weight"

# transformers leaves out of a saved config what equals the class's default: these are CLIPVisionConfig's (ViT-B/32). Its CLIP
# reads nothing else of a config but num_channels: the other keys are for training, or read by nothing.
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
TEXT_DEFAULTS = {"hidden_size": 512, "num_hidden_layers": 12, "vocab_size": 49408, "max_position_embeddings": 77}
"""CLIPTextConfig's, of which only the size is read here."""
OPENAI = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
"""Pixel normalisation of OpenAI's CLIP."""
PROMPTS_AT_ONCE = 256


@FAMILIES.register("clip")
@dataclass(frozen=True)
class Clip(ModelFiles):
    """Family of transformers' CLIPModel and CLIPVisionModel."""

    weights_file = WEIGHTS
    config_file = CONFIG
    model_types = ("clip", "clip_vision_model")
    side_files = (PREPROCESSOR,)
    base_files = (PREPROCESSOR, PROCESSOR, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", *TOKENIZERS[1])
    shared_files = (PREPROCESSOR, PROCESSOR, TOKENIZER)
    exported_files = (PREPROCESSOR,)
    shared_tensors = (PROJECTION,)
    unused_tensors = ("text_model.*", "text_projection.weight", "logit_scale")
    buffers = ("*.position_ids",)
    protocol = "zero_shot"

    def needed(self, names: Collection[str], base: bool, where: str) -> list[str]:
        """What transformers saved; where that is not whole, open_clip's pair of files."""
        whole = CONFIG in names and (WEIGHTS in names or f"{WEIGHTS}.index.json" in names)
        if not whole and {open_clip.WEIGHTS, open_clip.CONFIG} <= set(names):
            return [open_clip.WEIGHTS, open_clip.CONFIG]
        return super().needed(names, base, where)

    def config_name(self, names: Collection[str]) -> str:
        """open_clip's, where its pair of files was taken."""
        return open_clip.CONFIG if open_clip.CONFIG in names else CONFIG

    def bring(self, files: Mapping[str, Path], folder: Path, base: bool) -> None:
        """Also writes the preprocessor that a CLIPProcessor holds or, for a base without any, transformers' default.

        An open_clip checkpoint's tower and projection are rewritten, and the whole is kept beside them for the text head.
        """
        if open_clip.WEIGHTS in files:
            self._rewrite(files, folder)
        else:
            super().bring({name: path for name, path in files.items() if name != PROCESSOR}, folder, base)
            self._preprocess(files, folder, base)
        if base:
            warn_of_resizing(read_config(folder))

    def traits(self, folder: Path) -> dict[str, Any]:
        """The tower's shape and pixel normalisation."""
        return asdict(read_config(folder))

    def check_like(self, expert: Path, base: Path, label: str) -> None:
        """As every family; of an expert from open_clip also what was not rewritten."""
        super().check_like(expert, base, label)
        if (expert / open_clip.WEIGHTS).is_file():
            family = open_clip.OpenClip()
            # A base that transformers saved has other names for its text tower: then there is nothing to compare with.
            known = family.checkpoint(base if (base / open_clip.WEIGHTS).is_file() else expert, "base")
            shared, unused = family.shared_tensors, family.unused_tensors
            check_left_over(family.checkpoint(expert, label), known, shared, unused, family.buffers)

    def checkpoint(self, folder: Path, label: str = "") -> Checkpoint:
        """The vision tower; in which of the two layouts is read from the file."""
        path = Path(folder) / WEIGHTS
        names = list(tower_names(vision_config(read_object(Path(folder) / CONFIG))))
        prefix = PREFIX if f"{PREFIX}{names[0]}" in Checkpoint(path, label=label) else ""
        return Checkpoint(path, {name: Slot(prefix + name) for name in names}, label)

    def save(self, folder: Path, tensors: Mapping[str, torch.Tensor], config_from: Path, metadata: Mapping[str, str]) -> None:
        """As CLIPVisionModel.save_pretrained and CLIPImageProcessor.save_pretrained would, without a projection."""
        folder, config = Path(folder), read_config(config_from)
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(folder / WEIGHTS, tensors, {"format": "pt", **metadata})
        write_json(folder / CONFIG, stored_config(config))
        write_json(folder / PREPROCESSOR, stored_preprocessor(config))

    def build(self, folder: Path, label: str = "") -> VisionTower:
        """The tower with the pixel normalisation of the folder's preprocessor."""
        from pmqbench.families.vit import build_tower

        return build_tower(read_config(folder), self.checkpoint(folder, label))

    def linear_shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """Of the vision tower; the config may be open_clip's."""
        return vision_config(config).linear_shapes()

    def size(self, config: Mapping[str, Any]) -> ModelSize:
        """Of the vision tower, and of the text tower beside it."""
        if "model_cfg" in config:
            return open_clip.OpenClip().size(config)
        vision, text = vision_config(config), TEXT_DEFAULTS | dict(config.get("text_config", {}))
        sizes = (text[key] for key in TEXT_DEFAULTS)
        return vision.size(text_parameters(*sizes, config.get("projection_dim", 512), vision.width))

    def deployed(self, folder: Path, base: Path) -> Deployed:
        """As a CLIPVisionModel."""
        return deployed_tower(read_config(folder))

    def head(self, base: Path, classnames: list[str], templates: list[str]) -> dict[str, torch.Tensor]:
        """From the base's text tower: `base` must hold the whole CLIP and its tokenizer."""
        base = Path(base)
        if (base / open_clip.WEIGHTS).is_file():
            return open_clip.OpenClip().head(base, classnames, templates)
        return head_of(load_clip(base), load_tokenizer(base), classnames, templates)

    def _rewrite(self, files: Mapping[str, Path], folder: Path) -> None:
        for name, path in files.items():
            link(path, folder / name)
        checkpoint, config = open_clip.OpenClip().checkpoint(folder), open_clip.read_config(folder)
        projection = checkpoint.left_over_tensor(open_clip.PROJECTION)
        own = {} if projection is None else {PROJECTION: projection.T}
        save_checkpoint(folder / WEIGHTS, dict(checkpoint.items()) | own)
        write_json(folder / CONFIG, stored_config(config))
        write_json(folder / PREPROCESSOR, stored_preprocessor(config))

    def _preprocess(self, files: Mapping[str, Path], folder: Path, base: bool) -> None:
        if PREPROCESSOR in files:
            return
        held = read_object(files[PROCESSOR]).get("image_processor") if PROCESSOR in files else None
        if held:
            write_json(folder / PREPROCESSOR, held)
        elif base:
            write_json(folder / PREPROCESSOR, stored_preprocessor(vision_config(read_object(folder / CONFIG))))
            log.warning(
                "base: there is no %s beside %s, so that pixels are normalised with the mean and std of OpenAI's CLIP, as "
                "transformers does. Write it with CLIPImageProcessor(image_mean=..., image_std=...).save_pretrained(...).",
                PREPROCESSOR,
                files[CONFIG].resolve(),
            )


def read_config(folder: Path) -> VisionConfig:
    """The tower's shape and pixel normalisation from the files of a folder; DataError if one is missing."""
    config, preprocessor = Path(folder) / CONFIG, Path(folder) / PREPROCESSOR
    pixels = preprocessing(read_object(preprocessor), str(preprocessor.resolve()))
    return vision_config(read_object(config), pixels, str(config.resolve()))


def vision_config(config: Mapping[str, Any], pixels: Mapping[str, Any] = OPENAI, where: str = CONFIG) -> VisionConfig:
    """VisionConfig from the config of a CLIPModel, a CLIPVisionModel or an open_clip model, which has its own preprocessing.

    Args:
        config: the file's content.
        pixels: as from `preprocessing`.
        where: what messages call the file.

    Raises:
        DataError: not a CLIP, or of a kind that this tower is not.
    """
    if "model_cfg" in config:
        return open_clip.vision_config(config, where)
    vision = {**DEFAULTS, **(config.get("vision_config") or config), **(config.get("vision_config_dict") or {})}
    kind, activation, channels = config.get("model_type", "clip"), vision["hidden_act"], vision.get("num_channels", 3)
    if kind not in ("clip", "clip_vision_model") or activation not in ("gelu", "quick_gelu") or channels != 3:
        what = f'model_type "{kind}" with hidden_act "{activation}" and {channels} channels is no CLIP vision tower.'
        raise DataError(what, where=where, remedy="Use a CLIPModel or CLIPVisionModel, or another `family`.")
    if "quantization_config" in {**config, **vision}:
        remedy = "Use the model as it was before, in float32, float16 or bfloat16."
        raise DataError("the weights are quantized already.", where=where, remedy=remedy)
    return checked(
        VisionConfig(
            width=vision["hidden_size"],
            layers=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            mlp_width=vision["intermediate_size"],
            image_size=side(vision["image_size"], "image_size", where),
            patch_size=side(vision["patch_size"], "patch_size", where),
            activation=activation,
            eps=vision["layer_norm_eps"],
            **pixels,
        ),
        where,
    )


def load_clip(folder: Path) -> CLIPModel:
    """The whole CLIP of `folder`, float32, eval mode, from safetensors; DataError if a part of it is missing."""
    import torch
    from transformers import CLIPModel

    path = folder / WEIGHTS
    lacking = {"text_projection.weight"} - set(Checkpoint(path).names())  # a vision tower alone would be filled up at random
    model = None
    if not lacking:
        model, loading = CLIPModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        lacking = loading["missing_keys"]
    if lacking:
        remedy = "A base must be a whole CLIPModel, with text tower and both projections."
        raise DataError(f'tensor "{min(lacking)}" is missing.', where=str(path.resolve()), remedy=remedy)
    return model.eval()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of `folder`; DataError if it has none (transformers would make an empty one)."""
    from transformers import AutoTokenizer

    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        remedy = "A base needs tokenizer.json, or vocab.json and merges.txt, beside its weights."
        raise DataError("there is no tokenizer.", where=str(folder), remedy=remedy)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def head_of(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, classnames: list[str], templates: list[str]
) -> dict[str, torch.Tensor]:
    """CLIP's zero-shot classifier (Radford et al., 2021): normalised mean over templates of normalised text embeddings.

    Returns:
        classes (classes, dim), projection (dim, width) of the vision tower, logit_scale () already exponentiated.
    """
    import torch
    from torch.nn.functional import normalize

    prompts = [template.format(name) for name in classnames for template in templates]
    length = model.config.text_config.max_position_embeddings
    rows = []
    with torch.no_grad():
        for start in range(0, len(prompts), PROMPTS_AT_ONCE):
            part = prompts[start : start + PROMPTS_AT_ONCE]
            tokens = tokenizer(part, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            rows.append(model.text_projection(model.text_model(**tokens).pooler_output))
    embeddings = normalize(torch.cat(rows), dim=-1).view(len(classnames), len(templates), -1)
    return {
        "classes": normalize(embeddings.mean(dim=1), dim=-1),
        "projection": model.visual_projection.weight.detach().contiguous(),
        "logit_scale": model.logit_scale.detach().exp(),
    }
