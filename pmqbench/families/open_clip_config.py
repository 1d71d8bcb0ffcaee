"""What `open_clip_config.json` says of a vision tower, without torch or open_clip.

open_clip builds many kinds of towers from one config. Keys are therefore read by a list of those that this project knows: a key
that could change the features, and is not read here, is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pmqbench.errors import DataError
from pmqbench.families.files import is_positive
from pmqbench.families.vision_config import VisionConfig, check_pixels, checked, side

CONFIG = "open_clip_config.json"

# open_clip.model.CLIPVisionCfg: what is read, with open_clip's defaults; what must be off, with the values that say so; what
# matters in training alone, to what is off, or to the form in which features are returned.
READ = {"layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16, "image_size": 224}
OFF: dict[str, tuple[Any, ...]] = {
    "ls_init_value": (None,),
    "attentional_pool": (False, None),
    "no_ln_pre": (False,),
    "pos_embed_type": ("learnable",),
    "final_ln_after_pool": (False,),
    "pool_type": ("tok",),
    "act_kwargs": (None, {}),
    "norm_kwargs": (None, {}),
    "block_type": (None, "default"),
    "qk_norm": (False,),
    "scaled_cosine_attn": (False,),
    "scale_heads": (False,),
    "scale_attn_inner": (False,),
    "scale_attn": (False,),
    "scale_fc": (False,),
    "timm_model_name": (None, ""),
}
WITHOUT_EFFECT = {
    "patch_dropout",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "output_tokens",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "timm_proj_bias",
    "timm_drop",
    "timm_drop_path",
}

# open_clip.CLIP's arguments. A logit scale or bias changes no zero-shot answer; the text tower is open_clip's own.
MODEL_READ = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale", "init_logit_bias", "output_dict"}
MODEL_OFF: dict[str, tuple[Any, ...]] = {"custom_text": (False,), "nonscalar_logit_scale": (False,)}
# Text towers whose prompts go through another tokenizer than CLIP's, which heads are made with.
TEXT_OFF: dict[str, tuple[Any, ...]] = {
    "hf_tokenizer_name": (None, ""),
    "tokenizer_mode": (None, ""),
    "tokenizer_kwargs": (None, {}),
    "hf_model_name": (None, ""),
}

ADD_PREPROCESSING = (
    'Add "preprocess_cfg": {"mean": [red, green, blue], "std": [red, green, blue]}, the normalisation of pixels (0..1) that '
    "the model was trained with; open_clip's own default would be a guess."
)


def vision_config(config: Mapping[str, Any], where: str = CONFIG) -> VisionConfig:
    """VisionConfig from an open_clip config, {"model_cfg": ..., "preprocess_cfg": ...}.

    Args:
        config: the file's content.
        where: what messages call the file.

    Raises:
        DataError: a key is missing or unknown, or says that the tower is no plain ViT of the OpenAI kind.
    """
    if not isinstance(config.get("model_cfg"), Mapping):
        remedy = f'Put the model\'s config under "model_cfg". {ADD_PREPROCESSING}'
        raise DataError('there is no "model_cfg".', where=where, remedy=remedy)
    model = config["model_cfg"]
    vision, text = model.get("vision_cfg"), model.get("text_cfg", {})
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise DataError('"vision_cfg" or "text_cfg" is no object.', where=where, remedy="Use a config as open_clip writes it.")
    wrong = [
        *_foreign(model, "model_cfg", MODEL_READ, MODEL_OFF),
        *_foreign(vision, "vision_cfg", READ.keys() | WITHOUT_EFFECT, OFF),
        *_foreign(text, "text_cfg", text.keys() - TEXT_OFF.keys(), TEXT_OFF),
        *(["vision_cfg.layers is a list (a ResNet)"] if isinstance(vision.get("layers"), list) else []),
    ]
    if wrong:
        remedy = "Use a plain ViT of the OpenAI kind, e.g. ViT-B-32."
        raise DataError(f"this open_clip model is not read here: {'; '.join(wrong)}.", where=where, remedy=remedy)
    preprocess = config.get("preprocess_cfg")
    lacking = ["mean", "std"]
    if isinstance(preprocess, Mapping):
        lacking = [key for key in lacking if not isinstance(preprocess.get(key), list | tuple)]
    if lacking:
        what = "there is no preprocess_cfg" if preprocess is None else f"preprocess_cfg has no {' and no '.join(lacking)}"
        raise DataError(f"{what}.", where=where, remedy=ADD_PREPROCESSING)
    check_pixels(preprocess["mean"], preprocess["std"], where)
    sizes = READ | {key: value for key, value in vision.items() if key in READ}
    width, head_width, ratio = (sizes[key] for key in ("width", "head_width", "mlp_ratio"))
    if not all(map(is_positive, (width, head_width, ratio))):
        what = f"width {width!r}, head_width {head_width!r} and mlp_ratio {ratio!r} are not all positive numbers."
        raise DataError(what, where=where, remedy="Is this the config that the model was saved with?")
    return checked(
        VisionConfig(
            width=width,
            layers=sizes["layers"],
            heads=width // head_width,
            mlp_width=int(width * ratio),
            image_size=side(sizes["image_size"], "image_size", where),
            patch_size=side(sizes["patch_size"], "patch_size", where),
            activation="quick_gelu" if model.get("quick_gelu") else "gelu",
            eps=1e-5,
            mean=tuple(preprocess["mean"]),
            std=tuple(preprocess["std"]),
            # as open_clip's image_transform has it when it evaluates
            interpolation="bilinear" if preprocess.get("interpolation") == "bilinear" else "bicubic",
            resize=preprocess.get("resize_mode") or "shortest",
        ),
        where,
    )


def _foreign(part: Mapping[str, Any], name: str, known: Any, off: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """Sentences on the keys of a part of the config that are unknown, or not off."""
    unknown = [f"{name}.{key} is unknown" for key in part if key not in known and key not in off]
    return unknown + [
        f"{name}.{key} is {part[key]!r}" for key, values in off.items() if key in part and part[key] not in values
    ]
