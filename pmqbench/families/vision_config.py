"""Shape of a CLIP vision tower, and what follows from it without torch: tensor names, linear shapes, blocks.

Config validation reads it while Snakemake parses; `vit.py` builds the module.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pmqbench.errors import DataError
from pmqbench.families.base import Block, Group
from pmqbench.families.files import Deployed, is_positive, is_size
from pmqbench.families.sizes import ModelSize

log = logging.getLogger(__name__)

INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
FAR = 1e6  # from any pixel
SIZES = ("width", "layers", "heads", "mlp_width", "image_size", "patch_size")


@dataclass(frozen=True)
class VisionConfig:
    """Shape of a CLIP vision tower, and what its images go through before it.

    Sizes are in pixels, `mean` and `std` per RGB channel on the 0..1 scale. Tasks' images are resized as the defaults of
    `interpolation` and `resize` have it, whatever a model says of itself.

    Attributes:
        interpolation: "bicubic", "bilinear", ...
        resize: "shortest" (the short side, then a centre crop), "squash" (both sides) or another mode of open_clip.
    """

    width: int
    layers: int
    heads: int
    mlp_width: int
    image_size: int
    patch_size: int
    activation: str
    eps: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize: str = "shortest"

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """(out, in) of every quantizable linear layer, in forward order."""
        attention, wide = (self.width, self.width), (self.mlp_width, self.width)
        return {
            f"encoder.layers.{i}.{name}": shape
            for i in range(self.layers)
            for name, shape in (
                *((f"self_attn.{p}_proj", attention) for p in ("q", "k", "v", "out")),
                ("mlp.fc1", wide),
                ("mlp.fc2", wide[::-1]),
            )
        }

    @property
    def tokens(self) -> int:
        """The class token and those of the patches."""
        return 1 + (self.image_size // self.patch_size) ** 2

    def size(self, beside: int) -> ModelSize:
        """The tower's; `beside` are the parameters of the base's other tensors."""
        shapes, width = self.linear_shapes(), self.width
        vectors = [out for out, _ in shapes.values()] + [width] * (5 + 4 * self.layers)  # biases, norms, class token
        embeddings = [3 * self.patch_size**2 * width, self.tokens * width]
        return ModelSize.of(
            shapes,
            lambda name: self.tokens,
            [*embeddings, *vectors, *(out * inputs for out, inputs in shapes.values())],
            beside=beside,
            blocks=self.layers,
            width=width,
            tokens=self.tokens,
            input_bytes=3 * self.image_size**2,
        )

    def blocks(self) -> tuple[Block, ...]:
        """The encoder layers in forward order."""
        return tuple(_block(i, last=i == self.layers - 1) for i in range(self.layers))


def checked(config: VisionConfig, where: str) -> VisionConfig:
    """The config itself; DataError if no vision tower has such sizes, or such an eps."""
    wrong = [
        f"{name} is {value!r} instead of a positive whole number that a model can have"
        for name, value in ((name, getattr(config, name)) for name in SIZES)
        if not is_size(name, value)
    ]
    wrong += [] if is_positive(config.eps) else [f"eps is {config.eps!r} instead of a positive number"]
    if not wrong and config.width % config.heads:
        wrong = [f"width {config.width} cannot be split into {config.heads} heads"]
    if wrong:
        raise DataError(f"{'; '.join(wrong)}.", where=where, remedy="Is this the config that the model was saved with?")
    return config


def text_parameters(width: int, layers: int, vocabulary: int, positions: int, embedding: int, vision_width: int) -> int:
    """Parameters of a CLIP beside its vision tower: the text tower, both projections, the logit scale."""
    blocks = layers * (12 * width**2 + 13 * width)
    return blocks + (vocabulary + positions + 2) * width + embedding * (width + vision_width) + 1


def warn_of_resizing(config: VisionConfig) -> None:
    """Warns of a base whose images were resized otherwise than a task's are."""
    own, ours = (config.interpolation, config.resize), (VisionConfig.interpolation, VisionConfig.resize)
    if own != ours:
        log.warning(
            "base: its preprocessing resizes images by %s, %s; the images of all tasks are resized by %s, %s. Results may lie "
            "below what the models can do.",
            *own,
            *ours,
        )


def check_pixels(mean: Any, std: Any, where: str) -> None:
    """Raises DataError if no image is normalised with such a mean and standard deviation."""
    wrong = [
        f"{name} is {value!r} instead of three numbers, one for each of red, green and blue"
        for name, value in (("mean", mean), ("std", std))
        if len(value) != 3 or not all(isinstance(number, int | float) and abs(number) < FAR for number in value)
    ]
    if not wrong and min(std) <= 0:
        wrong = [f"std is {std}, and pixels are divided by it"]
    if wrong:
        raise DataError(f"{'; '.join(wrong)}.", where=where, remedy="Give those that the model was trained with.")


def preprocessing(preprocessor: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of VisionConfig that transformers' preprocessor tells: mean, std and how images are resized.

    Raises:
        DataError: it does not take pixels to (x / 255 - mean) / std.
    """
    wrong = [f"{key} is missing" for key in ("image_mean", "image_std") if not isinstance(preprocessor.get(key), list)]
    wrong += [f"{key} is off" for key in ("do_normalize", "do_rescale") if preprocessor.get(key, True) is not True]
    factor = preprocessor.get("rescale_factor", 1 / 255)
    usual = isinstance(factor, float) and math.isclose(factor, 1 / 255, rel_tol=1e-3)
    wrong += [] if usual else [f"rescale_factor is {factor}"]
    number, size = preprocessor.get("resample"), preprocessor.get("size")
    interpolations = {None: VisionConfig.interpolation, **dict(enumerate(INTERPOLATIONS))}
    wrong += [] if number in list(interpolations) else [f"resample is {number}"]
    if wrong:
        remedy = "Give the image_mean and image_std that the model was trained with, for pixels on the 0..1 scale."
        raise DataError(f"{'; '.join(wrong)}.", where=where, remedy=remedy)
    mean, std = preprocessor["image_mean"], preprocessor["image_std"]
    check_pixels(mean, std, where)
    return {
        "mean": tuple(mean),
        "std": tuple(std),
        "interpolation": interpolations[number],
        "resize": "squash" if isinstance(size, Mapping) and "height" in size else "shortest",
    }


def side(value: Any, key: str, where: str) -> Any:
    """The side of a square given as one number or as [height, width]; DataError if it is no square."""
    if not isinstance(value, list | tuple):
        return value
    if len(value) != 2 or value[0] != value[1]:
        raise DataError(f"{key} is {list(value)}.", where=where, remedy="Images and patches must be squares.")
    return value[0]


def tower_names(config: VisionConfig) -> Iterator[str]:
    """Canonical names of all tensors of the tower, in forward order."""
    yield from ("embeddings.class_embedding", "embeddings.patch_embedding.weight", "embeddings.position_embedding.weight")
    yield from ("pre_layrnorm.weight", "pre_layrnorm.bias")
    for i in range(config.layers):
        modules = ("layer_norm1", *(f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")), "layer_norm2", "mlp.fc1", "mlp.fc2")
        yield from (f"encoder.layers.{i}.{m}.{part}" for m in modules for part in ("weight", "bias"))
    yield from ("post_layernorm.weight", "post_layernorm.bias")


def _block(i: int, last: bool) -> Block:
    name = f"encoder.layers.{i}"
    q, k, v, out = (f"{name}.self_attn.{p}_proj" for p in ("q", "k", "v", "out"))
    fc1, fc2 = f"{name}.mlp.fc1", f"{name}.mlp.fc2"
    groups = (
        Group((q, k, v), norm=f"{name}.layer_norm1"),
        Group((out,), producer=v, stage=1),
        Group((fc1,), norm=f"{name}.layer_norm2", stage=2),
        Group((fc2,), stage=2, mlp_output=True),  # a GELU stands between fc1 and fc2: no exact folding
    )
    class_token_layers = frozenset({q, out, fc1, fc2}) if last else frozenset()
    return Block(name, groups, class_token_layers, score_layers=frozenset({q, k}), wide=frozenset({0}))


def stored_config(config: VisionConfig) -> dict[str, Any]:
    """`config.json` of a CLIPVisionModel."""
    return {
        "architectures": ["CLIPVisionModel"],
        "model_type": "clip_vision_model",
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_act": config.activation,
        "layer_norm_eps": config.eps,
    }


def stored_preprocessor(config: VisionConfig) -> dict[str, Any]:
    """`preprocessor_config.json` with the pixel normalisation, so that merged models keep the base's."""
    square = {"height": config.image_size, "width": config.image_size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": square if config.resize == "squash" else {"shortest_edge": config.image_size},
        "resample": INTERPOLATIONS.index(config.interpolation),
        "crop_size": square,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
    }


def deployed_tower(config: VisionConfig) -> Deployed:
    """A tower as transformers loads it, with the image processor that its pixels went through."""
    processor = json.dumps(stored_preprocessor(config), indent=1)
    return Deployed("CLIPVisionModel", stored_config(config), {"preprocessor_config.json": processor})
