"""The zero-shot protocol: images against the frozen head of a task's class names (CLIP; Radford et al., 2021)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.errors import NumericalError
from pmqbench.evaluation.base import PROTOCOLS, Assets, Score
from pmqbench.heartbeat import each
from pmqbench.tasks.kinds.image_classification import ImageTask

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.families.base import BlockModel

    Examples = tuple[dict[str, Tensor], Tensor, Tensor]

log = logging.getLogger(__name__)

SAME = 1 - 1e-6  # cosine of two class embeddings that differ by rounding alone


@PROTOCOLS.register("zero_shot")
@dataclass(frozen=True)
class ZeroShot:
    """Batches are uint8 images (n, 3, h, w); an answer is the class of the largest logit."""

    task_class = ImageTask
    uses_heads = True
    base_files = ()

    def calibration_batches(
        self, split: Path, base: Path, task: str, samples: int, seed: int, batch_size: int
    ) -> Sequence[Tensor]:
        """Images alone."""
        from pmqbench.tasks.splits import drawn_images

        return drawn_images(split, task, samples, seed).split(batch_size)

    def examples(self, split: Path, assets: Assets) -> Examples:
        """Head, images, labels."""
        from pmqbench.tasks.splits import load_split

        return (load_head(assets.head), *load_split(split))

    def evaluate(self, model: BlockModel, examples: Examples, metric: str, batch_size: int, device: str, where: str) -> Score:
        """Top-1 accuracy and cross-entropy."""
        head, images, labels = examples
        batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        return classify(model, head, batches, device, where).score()


@dataclass(frozen=True)
class Outcome:
    """Per-example results of one model on one task.

    Attributes:
        correct: bool (n,): whether the top-1 class is the label.
        loss: float32 (n,): cross-entropy in nats.
    """

    correct: Tensor
    loss: Tensor

    def score(self) -> Score:
        """Accuracy with its binomial standard error, and the mean loss."""
        accuracy = self.correct.double().mean().item()
        error = (accuracy * (1 - accuracy) / len(self.correct)) ** 0.5
        return Score(accuracy, error, len(self.correct), self.correct.numpy(), self.loss.double().mean().item())


def load_head(path: Path) -> dict[str, Tensor]:
    """A zero-shot head; a warning for classes with one embedding, of which only the first can ever be an answer."""
    from safetensors.torch import load_file

    head = load_file(path)
    cosines = (head["classes"] @ head["classes"].T).triu(1)
    first, second = (cosines > SAME).nonzero(as_tuple=True)
    if len(first):
        message = "head %s: classes %d and %d (counted from 0; %d such pairs) are one to the text encoder. Reword their names."
        log.warning(message, path.stem, first[0], second[0], len(first))
    return head


def classify(
    model: BlockModel, head: Mapping[str, Tensor], batches: Iterable[tuple[Any, Tensor]], device: str, where: str
) -> Outcome:
    """The outcome of each example, in the order of the batches.

    Logits: normalised features (projected, where the head has a projection), times the normalised class embeddings, times the
    logit scale.

    Args:
        model: gives features (n, width).
        head: from `ZeroShotFamily.head`.
        batches: model inputs and labels, int64 (n,).
        device: where the model is.
        where: what messages call the model and task.

    Raises:
        NumericalError: NaN or Inf among the logits.
    """
    import torch
    import torch.nn.functional as F

    head = {name: tensor.to(device) for name, tensor in head.items()}
    correct, loss = [], []
    with torch.no_grad():
        for batch, labels in each(batches, "batches"):
            features = model(batch)
            if "projection" in head:
                features = features @ head["projection"].T
            logits = head["logit_scale"] * F.normalize(features, dim=-1) @ head["classes"].T
            if not bool(logits.isfinite().all()):
                raise NumericalError("the model's outputs are NaN or Inf.", where=where, remedy="Its weights are not usable.")
            labels = labels.to(device)
            correct.append((logits.argmax(dim=-1) == labels).cpu())
            loss.append(F.cross_entropy(logits, labels, reduction="none").cpu())
    return Outcome(torch.cat(correct), torch.cat(loss))
