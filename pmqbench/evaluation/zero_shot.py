"""Zero-shot classification with a frozen text head: CLIP's protocol (Radford et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pmqbench.errors import NumericalError
from pmqbench.families.base import BlockModel


@dataclass(frozen=True)
class Outcome:
    """Per-example results of one model on one task.

    Attributes:
        correct: bool (n,): whether the top-1 class is the label.
        loss: float32 (n,): cross-entropy in nats.
    """

    correct: Tensor
    loss: Tensor

    @property
    def accuracy(self) -> float:
        """Share of correct examples."""
        return self.correct.double().mean().item()

    @property
    def standard_error(self) -> float:
        """Standard error of the accuracy, from examples."""
        return (self.accuracy * (1 - self.accuracy) / len(self.correct)) ** 0.5


@torch.no_grad()
def classify(
    model: BlockModel, head: Mapping[str, Tensor], images: Tensor, labels: Tensor, batch_size: int, device: str, where: str
) -> Outcome:
    """Evaluates a vision tower on uint8 images (n, 3, h, w) with labels (n,).

    Logits: normalised projection of the pooled features, times the normalised class embeddings, times the logit scale.

    Raises:
        NumericalError: NaN or Inf among the logits.
    """
    head = {name: tensor.to(device) for name, tensor in head.items()}
    correct, loss = [], []
    for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        features = F.normalize(model(batch.to(device)) @ head["projection"].T, dim=-1)
        logits = head["logit_scale"] * features @ head["classes"].T
        if not bool(logits.isfinite().all()):
            raise NumericalError("the model's outputs are NaN or Inf.", where=where, remedy="Its weights are not usable.")
        target = target.to(device)
        correct.append((logits.argmax(dim=-1) == target).cpu())
        loss.append(F.cross_entropy(logits, target, reduction="none").cpu())
    return Outcome(torch.cat(correct), torch.cat(loss))
