"""Trains the mini suite's base and experts, on the CPU. Called by the model source `mini.py`; see docs/mini-suite.md.

The base is pre-trained contrastively on captioned images of all tasks, but **a third of every task's classes never occurs in
pre-training**: as with CLIP, the base knows a task in part, and an expert has something to learn. An expert fine-tunes the
vision tower against the frozen zero-shot head of its task, without open_clip, whose import would take as long as a quarter of
the training. Same seed, thread count and machine: same weights.
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

from pmqbench.families.open_clip import pack, unpack
from pmqbench.families.open_clip_config import vision_config
from pmqbench.families.vit import VisionTower
from pmqbench.heartbeat import each
from pmqbench.sources.mini import HELD_OUT_EVERY, OPEN_CLIP_CONFIG

if TYPE_CHECKING:
    from open_clip import CLIP, SimpleTokenizer

logger = logging.getLogger(__name__)

Split = tuple[np.ndarray, np.ndarray]
"""Images, uint8 (n, 3, 16, 16), and labels, int64 (n,)."""
Prompts = tuple[list[str], list[str]]
"""Class names, and templates with a {} where the name goes."""


@dataclass(frozen=True)
class Training:
    """One training run: AdamW under a one-cycle learning rate (Smith and Topin, 2018).

    Attributes:
        steps: optimiser steps.
        batch: images a step; for the base, images of each task a step.
        learning_rate: highest rate of the cycle.
        label_smoothing: share of the target that is spread over all captions or classes. The base is smoothed: it is then less
            sure of itself on classes that it has never seen.
        weight_decay: of AdamW, on tensors of two and more dimensions.
        warm_up: share of the steps in which the rate rises.
        betas: decay rates of AdamW's two moments.
    """

    steps: int
    batch: int
    learning_rate: float
    label_smoothing: float
    weight_decay: float = 0.05
    warm_up: float = 0.2
    betas: tuple[float, float] = (0.9, 0.98)


BASE = Training(steps=370, batch=24, learning_rate=1e-3, label_smoothing=0.2)
EXPERT = Training(steps=90, batch=128, learning_rate=6e-4, label_smoothing=0.0)
LOG_EVERY = 20


def train_base(
    splits: Mapping[str, Split], prompts: Mapping[str, Prompts], seed: int, threads: int, training: Training = BASE
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Pre-trains the base on the training splits of all tasks.

    Token embeddings keep their random initial values: names that pre-training never shows then differ as much as those it
    shows, and the text tower tells them apart as well.

    Args:
        splits: per task, images and labels of all classes; a third of the classes is left out here.
        prompts: per task, class names and templates; captions are templates filled with class names.
        seed: of initial weights, batches and captions.
        threads: of torch; another number may round differently.
        training: hyper-parameters.

    Returns:
        The model's state dict (open_clip's names, float32) and its open_clip config.
    """
    from open_clip import SimpleTokenizer

    with deterministic(seed, threads):
        model = build(OPEN_CLIP_CONFIG)
        model.token_embedding.weight.requires_grad_(False)
        tokenizer = SimpleTokenizer(context_length=model.context_length)
        rng = np.random.default_rng([seed, 0])
        seen = {task: normalised(seen_only(split), OPEN_CLIP_CONFIG) for task, split in splits.items()}

        def loss() -> torch.Tensor:
            images, captions = base_batch(seen, prompts, training.batch, rng)
            return contrastive_loss(model, tokenizer, images, captions, training.label_smoothing)

        optimise(list(model.parameters()), training, loss)
        log_separation(model, tokenizer, prompts)
    return detached(model.state_dict()), OPEN_CLIP_CONFIG


def train_expert(
    state_dict: Mapping[str, torch.Tensor],
    open_clip_config: Mapping[str, Any],
    images: np.ndarray,
    labels: np.ndarray,
    head: torch.Tensor,
    seed: int,
    threads: int,
    training: Training = EXPERT,
) -> dict[str, torch.Tensor]:
    """Fine-tunes the vision tower on one task; text tower, both projections and logit scale stay the base's.

    Args:
        state_dict, open_clip_config: the base, as from `train_base`.
        images, labels: uint8 (n, 3, 16, 16) and int64 (n,), all classes.
        head: (classes, dim), the task's zero-shot head, rows of length 1.
        seed: of the batches.
        threads: of torch.
        training: hyper-parameters.

    Returns:
        The tensors of the vision tower (`visual.*`, without `visual.proj`).
    """
    with deterministic(seed, threads):
        config = vision_config(open_clip_config)
        tower = VisionTower(config)
        tower.load_state_dict(unpack(state_dict, config))
        tower.requires_grad_(True)
        pixels, targets = torch.from_numpy(images), torch.from_numpy(labels)
        projection, scale = state_dict["visual.proj"], state_dict["logit_scale"].exp()
        rng = np.random.default_rng([seed, 1])

        def loss() -> torch.Tensor:
            chosen = torch.from_numpy(rng.choice(len(targets), training.batch, replace=False))
            features = functional.normalize(tower(pixels[chosen]) @ projection, dim=-1)
            return functional.cross_entropy(
                scale * features @ head.T, targets[chosen], label_smoothing=training.label_smoothing
            )

        optimise(list(tower.parameters()), training, loss)
    return detached(pack(detached(tower.state_dict())))


def build(open_clip_config: Mapping[str, Any]) -> CLIP:
    """A fresh model, weights from torch's current random state."""
    from open_clip import CLIP

    return CLIP(**open_clip_config["model_cfg"])


def seen_only(split: Split) -> Split:
    """The images of those classes that occur in pre-training."""
    images, labels = split
    seen = labels % HELD_OUT_EVERY != HELD_OUT_EVERY - 1
    return images[seen], labels[seen]


def normalised(split: Split, open_clip_config: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as float32 (n, 3, 16, 16) less the config's mean and by its standard deviation, and labels (n,)."""
    images, labels = split
    mean, std = (torch.tensor(open_clip_config["preprocess_cfg"][key]).view(3, 1, 1) for key in ("mean", "std"))
    return (torch.from_numpy(images).float() / 255 - mean) / std, torch.from_numpy(labels)


def base_batch(
    seen: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    prompts: Mapping[str, Prompts],
    count: int,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, list[str]]:
    """`count` random images of each task, (tasks * count, 3, 16, 16), and a caption for each.

    A task has one template a batch: two captions of one class would compete with each other in the loss.
    """
    images, captions = [], []
    for task, (pixels, labels) in seen.items():
        names, templates = prompts[task]
        template = templates[rng.integers(len(templates))]
        chosen = torch.from_numpy(rng.choice(len(labels), count, replace=False))
        images.append(pixels[chosen])
        captions += [template.format(names[label]) for label in labels[chosen].tolist()]
    return torch.cat(images), captions


def contrastive_loss(
    model: CLIP, tokenizer: SimpleTokenizer, images: torch.Tensor, captions: Sequence[str], label_smoothing: float
) -> torch.Tensor:
    """CLIP's symmetric loss over the batch's distinct captions; images share a caption as their positive (UniCL, CVPR 2022)."""
    distinct, owner = np.unique(captions, return_inverse=True)
    owned = functional.one_hot(torch.from_numpy(owner), len(distinct)).float()
    image_features = model.encode_image(images, normalize=True)
    text_features = model.encode_text(tokenizer(distinct.tolist()), normalize=True)
    logits = model.logit_scale.exp() * image_features @ text_features.T
    image_to_text = functional.cross_entropy(logits, owned, label_smoothing=label_smoothing)
    text_to_image = functional.cross_entropy(logits.T, (owned / owned.sum(0)).T, label_smoothing=label_smoothing)
    return (image_to_text + text_to_image) / 2


def log_separation(model: CLIP, tokenizer: SimpleTokenizer, prompts: Mapping[str, Prompts]) -> None:
    """Logs how near the two nearest classes of each task's zero-shot head are: an expert cannot tell parallel ones apart."""
    from pmqbench.families.open_clip import head_of

    for task, (names, templates) in prompts.items():
        classes = head_of(model, tokenizer, names, templates)["classes"]
        cosines = classes @ classes.T - 2 * torch.eye(len(classes))
        first, second = divmod(int(cosines.argmax()), len(classes))
        logger.info("%s: nearest classes %s, %s: cosine %.3f", task, names[first], names[second], cosines.max().item())


def optimise(parameters: Sequence[torch.nn.Parameter], training: Training, loss: Callable[[], torch.Tensor]) -> None:
    """Minimises `loss`, evaluated once a step, over those parameters that require gradients."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=training.learning_rate, betas=training.betas)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, training.learning_rate, total_steps=training.steps, pct_start=training.warm_up
    )
    for step in each(range(1, training.steps + 1), "steps"):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        cycle.step()
        if step % LOG_EVERY == 0 or step == training.steps:
            logger.info("step %d of %d: loss %.4f", step, training.steps, value.item())


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


def detached(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous copies without gradients, ready for safetensors."""
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}
