"""The mini suite's models, trained here: a small open_clip CLIP and one expert per task. Called by the scripts that make base and experts.

The base is pre-trained contrastively on captioned images of all tasks, but **a third of every task's classes never occurs in pre-training**:
as with CLIP, the base knows a task in part, and an expert has something to learn. An expert fine-tunes the vision tower against the
frozen zero-shot head of its task (`docs/mini-suite.md`). Same seed, thread count and machine: same weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from open_clip import CLIP

logger = logging.getLogger(__name__)

Split = tuple[np.ndarray, np.ndarray]
"""Images, uint8 (n, 3, 16, 16), and labels, int64 (n,)."""
Prompts = tuple[list[str], list[str]]
"""Class names, and templates with a {} where the name goes."""


@dataclass(frozen=True)
class Schedule:
    """One training run: AdamW under a one-cycle learning rate (Smith and Topin, 2018).

    Attributes:
        steps: optimiser steps.
        batch: images a step; for the base, of each task.
        learning_rate: highest rate of the cycle.
        weight_decay: of AdamW, on weight matrices alone.
        warm_up: share of the steps in which the rate rises.
    """

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.05
    warm_up: float = 0.2


BASE = Schedule(steps=400, batch=24, learning_rate=2e-3)
EXPERT = Schedule(steps=120, batch=128, learning_rate=3e-4)
LABEL_SMOOTHING = 0.0
BETAS = (0.9, 0.98)
HELD_OUT_EVERY = 3
"""Labels 2, 5, 8, ... of every task never occur in pre-training."""
LARGEST_LOGIT_SCALE = 50.0

MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "quick_gelu": False,
    "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 192, "layers": 4, "head_width": 48, "mlp_ratio": 4.0},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 1},
}


def open_clip_config() -> dict[str, Any]:
    """The model in the layout of open_clip's `open_clip_config.json`."""
    import open_clip

    preprocess = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    return {"model_cfg": MODEL_CONFIG, "preprocess_cfg": preprocess}


def train_base(
    splits: Mapping[str, Split],
    prompts: Mapping[str, Prompts],
    seed: int,
    threads: int,
    schedule: Schedule = BASE,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Pre-trains the base on the training splits of all tasks.

    Args:
        splits: per task, images and labels.
        prompts: per task, class names and templates; captions are templates filled with class names.
        seed: of initial weights, batches and captions.
        threads: of torch; another number may round differently.

    Returns:
        The model's state dict (open_clip's names, float32) and its open_clip config.
    """
    config = open_clip_config()
    with deterministic(seed, threads):
        model = build(config)
        model.token_embedding.weight.requires_grad_(False)
        rng = np.random.default_rng([seed, 0])
        seen = {task: normalised(seen_only(split), config) for task, split in splits.items()}

        def loss() -> torch.Tensor:
            images, captions = base_batch(seen, prompts, schedule.batch, rng)
            return contrastive_loss(model, images, captions)

        optimise(list(model.parameters()), schedule, loss, "base")
    return frozen_copy(model.state_dict()), config


def train_expert(
    state_dict: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    images: np.ndarray,
    labels: np.ndarray,
    head: torch.Tensor,
    seed: int,
    threads: int,
    schedule: Schedule = EXPERT,
) -> dict[str, torch.Tensor]:
    """Fine-tunes the vision tower on one task; text tower, both projections and logit scale stay the base's.

    Args:
        state_dict, config: the base, as from `train_base`.
        images, labels: uint8 (n, 3, 16, 16) and int64 (n,), all classes.
        head: (classes, dim), the task's zero-shot head.

    Returns:
        The tensors of the vision tower (`visual.*`, without `visual.proj`).
    """
    with deterministic(seed, threads):
        model = build(config)
        model.load_state_dict(state_dict)
        tower = {name: value for name, value in model.named_parameters() if in_tower(name)}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in tower)
        pixels, targets = normalised((images, labels), config)
        rng = np.random.default_rng([seed, 1])
        scale = model.logit_scale.exp()

        def loss() -> torch.Tensor:
            chosen = torch.from_numpy(rng.choice(len(targets), schedule.batch, replace=False))
            logits = scale * model.encode_image(pixels[chosen], normalize=True) @ head.T
            return functional.cross_entropy(logits, targets[chosen])

        optimise(list(tower.values()), schedule, loss, "expert")
    return frozen_copy({name: value for name, value in model.state_dict().items() if in_tower(name)})


def in_tower(name: str) -> bool:
    """Whether a tensor of the state dict belongs to what is fine-tuned, merged and quantized."""
    return name.startswith("visual.") and name != "visual.proj"


def build(config: Mapping[str, Any]) -> CLIP:
    """A fresh model, weights from torch's current random state."""
    from open_clip import CLIP

    return CLIP(**config["model_cfg"])


def tokens(captions: Sequence[str]) -> torch.Tensor:
    """open_clip's bundled tokenizer; int64 (n, context)."""
    from open_clip.tokenizer import tokenize

    return tokenize(list(captions), context_length=MODEL_CONFIG["text_cfg"]["context_length"])


@torch.no_grad()
def zero_shot_head(model: CLIP, prompts: Prompts) -> torch.Tensor:
    """Mean over templates of the normalised caption embeddings, normalised again; (classes, dim)."""
    names, templates = prompts
    filled = tokens([template.format(name) for name in names for template in templates])
    embedded = model.encode_text(filled, normalize=True).view(len(names), len(templates), -1)
    return functional.normalize(embedded.mean(1), dim=-1)


def seen_only(split: Split) -> Split:
    """The images of those classes that occur in pre-training."""
    images, labels = split
    kept = labels % HELD_OUT_EVERY != HELD_OUT_EVERY - 1
    return images[kept], labels[kept]


def normalised(split: Split, config: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as float32 with the config's mean and standard deviation taken out, and labels."""
    images, labels = split
    mean, std = (torch.tensor(config["preprocess_cfg"][key]).view(3, 1, 1) for key in ("mean", "std"))
    return (torch.from_numpy(images).float() / 255 - mean) / std, torch.from_numpy(labels)


def base_batch(
    tasks: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    prompts: Mapping[str, Prompts],
    count: int,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, list[str]]:
    """`count` random images of each task, (tasks * count, 3, 16, 16), and a caption for each."""
    images, captions = [], []
    for task, (pixels, labels) in tasks.items():
        names, templates = prompts[task]
        template = templates[rng.integers(len(templates))]
        chosen = rng.choice(len(labels), count, replace=False)
        images.append(pixels[torch.from_numpy(chosen)])
        captions += [template.format(names[label]) for label in labels[chosen].tolist()]
    return torch.cat(images), captions


def contrastive_loss(model: CLIP, images: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
    """CLIP's symmetric loss; images with the same caption share it as their positive (Yang et al., UniCL, CVPR 2022)."""
    unique, owner = np.unique(captions, return_inverse=True)
    target = functional.one_hot(torch.from_numpy(owner), len(unique)).float()
    image_features = model.encode_image(images, normalize=True)
    text_features = model.encode_text(tokens(unique.tolist()), normalize=True)
    scale = model.logit_scale.exp().clamp(max=LARGEST_LOGIT_SCALE)
    logits = scale * image_features @ text_features.T
    image_to_text = functional.cross_entropy(logits, target, label_smoothing=LABEL_SMOOTHING)
    text_to_image = functional.cross_entropy(logits.T, (target / target.sum(0)).T, label_smoothing=LABEL_SMOOTHING)
    return (image_to_text + text_to_image) / 2


def optimise(
    parameters: Sequence[torch.nn.Parameter], schedule: Schedule, loss: Callable[[], torch.Tensor], what: str
) -> None:
    """Minimises `loss`, evaluated once a step, over `parameters`."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=BETAS)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, schedule.learning_rate, total_steps=schedule.steps, pct_start=schedule.warm_up
    )
    for step in range(schedule.steps):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        cycle.step()
        if step % 20 == 0 or step == schedule.steps - 1:
            logger.info("%s: step %d of %d, loss %.4f", what, step + 1, schedule.steps, value.item())


@contextmanager
def deterministic(seed: int, threads: int) -> Iterator[None]:
    """Sets torch's seed and thread count, and puts both back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def frozen_copy(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous copies without gradients, ready for safetensors."""
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}
