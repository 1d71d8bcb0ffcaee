"""The zero-shot protocol: images against the head of a task's class names (CLIP)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pmqbench.evaluation.base import PROTOCOLS, Score
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
    data_code = "pmqbench.tasks.splits"
    base_files = ()
    calibrates_with_reader = False

    def reader(self, task: str, base: str, heads: str) -> str:
        """See EvaluationProtocol: the task's head."""
        return f"{heads}/{task}.safetensors"

    def calibration_batches(
        self, split: Path, reader: Path | None, task: str, samples: int, seed: int, batch_size: int
    ) -> Sequence[Tensor]:
        """See EvaluationProtocol."""
        from pmqbench.tasks.splits import draw_sample, load_split

        images, _ = load_split(split)
        return images[draw_sample(len(images), samples, seed, task)].split(batch_size)

    def examples(self, split: Path, reader: Path) -> Examples:
        """See EvaluationProtocol: head, images, labels."""
        from safetensors.torch import load_file

        from pmqbench.tasks.splits import load_split

        return (load_file(reader), *load_split(split))

    def evaluate(self, model: BlockModel, examples: Examples, metric: str, batch_size: int, device: str, where: str) -> Score:
        """See EvaluationProtocol; the metric of image tasks is accuracy."""
        from pmqbench.evaluation.zero_shot import classify

        head, images, labels = examples
        outcome = classify(model, head, images, labels, batch_size, device, where)
        loss = outcome.loss.double().mean().item()
        return Score(outcome.accuracy, outcome.standard_error, len(labels), outcome.correct.numpy(), loss)
