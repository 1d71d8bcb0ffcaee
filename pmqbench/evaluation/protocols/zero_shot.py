"""The zero-shot protocol: images against the head of a task's class names (CLIP)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pmqbench.evaluation.base import PROTOCOLS, Assets, Score
from pmqbench.tasks.definitions import ImageTask

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.families.base import BlockModel

    Examples = tuple[dict[str, Tensor], Tensor, Tensor]


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
        from pmqbench.tasks.splits import draw_sample, load_split

        images, _ = load_split(split)
        return images[draw_sample(len(images), samples, seed, task)].split(batch_size)

    def examples(self, split: Path, assets: Assets) -> Examples:
        """Head, images, labels."""
        from safetensors.torch import load_file

        from pmqbench.tasks.splits import load_split

        return (load_file(assets.head), *load_split(split))

    def evaluate(self, model: BlockModel, examples: Examples, metric: str, batch_size: int, device: str, where: str) -> Score:
        """Top-1 accuracy and cross-entropy."""
        from pmqbench.evaluation.zero_shot import classify

        head, images, labels = examples
        outcome = classify(model, head, images, labels, batch_size, device, where)
        loss = outcome.loss.double().mean().item()
        return Score(outcome.accuracy, outcome.standard_error, len(labels), outcome.correct.numpy(), loss)
