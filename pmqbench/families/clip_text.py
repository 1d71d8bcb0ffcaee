"""Zero-shot heads from a base that transformers stores: the only place that runs its text tower and tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase

from pmqbench.checkpoints import Checkpoint
from pmqbench.errors import DataError

BATCH = 256
"""Prompts per forward pass of the text tower."""
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Files of which one set makes a tokenizer."""


@torch.no_grad()
def zero_shot_head(folder: Path, classnames: list[str], templates: list[str]) -> dict[str, torch.Tensor]:
    """CLIP's zero-shot classifier (Radford et al., 2021): normalised mean over templates of normalised text embeddings.

    Returns:
        classes (classes, dim), projection (dim, width) of the vision tower, logit_scale () already exponentiated.

    Raises:
        DataError: no tokenizer, or weights without a text tower.
    """
    model = load_clip(folder)
    tokenizer = load_tokenizer(folder)
    prompts = [template.format(name) for name in classnames for template in templates]
    length = model.config.text_config.max_position_embeddings
    rows = []
    for start in range(0, len(prompts), BATCH):
        tokens = tokenizer(
            prompts[start : start + BATCH], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        rows.append(model.text_projection(model.text_model(**tokens).pooler_output))
    embeddings = F.normalize(torch.cat(rows), dim=-1).view(len(classnames), len(templates), -1)
    return {
        "classes": F.normalize(embeddings.mean(dim=1), dim=-1),
        "projection": model.visual_projection.weight.detach().contiguous(),
        "logit_scale": model.logit_scale.detach().exp(),
    }


def load_clip(folder: Path) -> CLIPModel:
    """The whole CLIP of `folder`, float32, eval mode, from safetensors; DataError if a part of it is missing."""
    path = folder / "model.safetensors"
    lacking = {"text_projection.weight"} - set(Checkpoint(path).names())  # a vision tower alone would be filled up at random
    model = None
    if not lacking:
        model, loading = CLIPModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        lacking = loading["missing_keys"]
    if lacking:
        remedy = "A base must be a whole CLIPModel, with text tower and both projections."
        raise DataError(f'tensor "{min(lacking)}" is missing.', where=str(path), remedy=remedy)
    return model.eval()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of `folder`; DataError if it has none (transformers would make an empty one)."""
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        remedy = "A base needs tokenizer.json, or vocab.json and merges.txt, beside its weights."
        raise DataError("there is no tokenizer.", where=str(folder), remedy=remedy)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
