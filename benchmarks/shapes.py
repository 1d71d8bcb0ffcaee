"""Models of the suites' real shapes with random weights, and inputs for them: what the benchmarks run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.quantization.calibrate import Expert

PROMPT_TOKENS, ANSWER_TOKENS = 64, 4  # FLAN-T5: of a GLUE prompt, and of an answer


def clip(width: int, layers: int, patch_size: int) -> dict[str, Any]:
    """Config of an OpenAI CLIP's vision tower in transformers' layout."""
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 64}
    sizes = {"intermediate_size": 4 * width, "image_size": 224, "patch_size": patch_size}
    return {"model_type": "clip_vision_model", "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, **shape, **sizes}


FLAN_T5_BASE = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 2048,
    "num_heads": 12,
    "num_layers": 12,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
MODELS = {
    "vit-b-32": ("clip", clip(768, 12, 32)),
    "vit-l-14": ("clip", clip(1024, 24, 14)),
    "flan-t5-base": ("t5", FLAN_T5_BASE),
}


def first_blocks(config: Mapping[str, Any], blocks: int | None) -> dict[str, Any]:
    """The config of the same model with fewer blocks (a T5: of each stack); all of them if `blocks` is None."""
    key = "num_layers" if config["model_type"] == "t5" else "num_hidden_layers"
    return dict(config) | ({} if blocks is None else {key: blocks})


def shapes(family: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the model, by canonical name."""
    if family == "t5":
        from pmqbench.families.t5_config import t5_config

        return t5_config(config).shapes(own_head=True)
    import torch

    from pmqbench.families.clip import vision_config
    from pmqbench.families.vit import VisionTower

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in VisionTower(vision_config(config)).state_dict().items()}


def inputs(family: str, config: Mapping[str, Any], samples: int, batch: int, seed: int) -> list[Any]:
    """Batches of random images or token ids, as the family's models take them."""
    import torch

    torch.manual_seed(seed)
    sizes = [min(batch, samples - start) for start in range(0, samples, batch)]
    if family == "t5":
        return [tokens(size, config["vocab_size"]) for size in sizes]
    side = config["image_size"]
    return [torch.randint(256, (size, 3, side, side), dtype=torch.uint8) for size in sizes]


def tokens(size: int, vocabulary: int) -> dict[str, Tensor]:
    """A batch of prompts and answers, without padding."""
    import torch

    batch = {}
    for prefix, length in (("", PROMPT_TOKENS), ("decoder_", ANSWER_TOKENS)):
        batch[f"{prefix}input_ids"] = torch.randint(3, vocabulary, (size, length))
        batch[f"{prefix}attention_mask"] = torch.ones(size, length, dtype=torch.long)
    return batch


def random_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Norms are 1, biases 0; all else keeps the size of what goes through it."""
    import torch

    if len(shape) == 1:
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    return torch.randn(shape) * (0.02 if "embedding" in name or "shared" in name else shape[1:].numel() ** -0.5)


def write_models(folder: Path, family_name: str, config: Mapping[str, Any], tasks: Sequence[str]) -> int:
    """Base and an expert a task below `folder`, an expert being the base and a twentieth of noise; returns the parameters."""
    import torch

    family = FAMILIES.get(family_name)()
    torch.manual_seed(0)
    base = {name: random_tensor(name, torch.Size(shape)) for name, shape in shapes(family_name, config).items()}
    write_json(folder / family.config_file, config)
    if family_name == "clip":
        from pmqbench.families.clip import PREPROCESSOR, vision_config
        from pmqbench.families.vision_config import stored_preprocessor

        write_json(folder / PREPROCESSOR, stored_preprocessor(vision_config(config)))
    family.save(folder / "base", base, folder, {})
    for task in tasks:
        expert = {name: tensor + 0.05 * tensor.std() * torch.randn_like(tensor) for name, tensor in base.items()}
        family.save(folder / task, expert, folder, {})
    return sum(tensor.numel() for tensor in base.values())


def merge_models(folder: Path, family_name: str, tasks: Sequence[str]) -> None:
    """Task Arithmetic of what `write_models` wrote, into `folder`/merged."""
    from pmqbench.merging.engine import merge
    from pmqbench.merging.task_arithmetic import TaskArithmetic

    family = FAMILIES.get(family_name)()
    towers = [family.checkpoint(folder / task, f"expert {task}") for task in tasks]
    merged = merge(TaskArithmetic(scaling=0.3), family.checkpoint(folder / "base", "base"), towers)
    family.save(folder / "merged", merged, folder, {})


def experts(folder: Path, family_name: str, tasks: Sequence[str], device: str) -> dict[str, Expert]:
    """The experts that `write_models` wrote."""
    from pmqbench.quantization.calibrate import Expert

    family = FAMILIES.get(family_name)()
    return {
        task: Expert(f"expert {task}", family.checkpoint(folder / task), lambda t=task: family.build(folder / t).to(device))
        for task in tasks
    }
