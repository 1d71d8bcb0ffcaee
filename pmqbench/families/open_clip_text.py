"""Zero-shot heads from an open_clip base: the only place that runs its text tower."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch
from open_clip.factory import load_state_dict

from pmqbench.files import read_json


def load_clip(folder: Path) -> open_clip.CLIP:
    """The whole open_clip model of `folder`, float32, eval mode, from its config and safetensors file."""
    config = dict(read_json(folder / "open_clip_config.json")["model_cfg"])
    model = open_clip.CLIP(**config)
    model.load_state_dict(load_state_dict(str(folder / "open_clip_model.safetensors")))
    return model.float().eval()


@torch.no_grad()
def zero_shot_head(folder: Path, classnames: list[str], templates: list[str]) -> dict[str, torch.Tensor]:
    """CLIP's zero-shot classifier (Radford et al., 2021): normalised mean over templates of normalised text embeddings.

    Returns:
        classes (classes, dim), projection (dim, width) of the vision tower, logit_scale () already exponentiated.
    """
    model = load_clip(folder)
    tokenize = open_clip.SimpleTokenizer(context_length=model.context_length)
    return head_of(model, tokenize, classnames, templates)


@torch.no_grad()
def head_of(
    model: open_clip.CLIP, tokenize: open_clip.SimpleTokenizer, classnames: list[str], templates: list[str]
) -> dict[str, torch.Tensor]:
    """`zero_shot_head` of a model in memory."""
    prompts = [template.format(name) for name in classnames for template in templates]
    embeddings = model.encode_text(tokenize(prompts), normalize=True).view(len(classnames), len(templates), -1)
    classes = torch.nn.functional.normalize(embeddings.mean(dim=1), dim=-1)
    return {
        "classes": classes,
        "projection": model.visual.proj.detach().T.contiguous(),
        "logit_scale": model.logit_scale.detach().exp(),
    }
