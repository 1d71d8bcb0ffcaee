"""The zero-shot protocol for texts: a text against the frozen head of a task's class-name sentences (sentence encoders)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pmqbench.evaluation.base import PROTOCOLS, Assets, Score
from pmqbench.evaluation.protocols.zero_shot import Outcome, classify, load_head
from pmqbench.tasks.kinds.text_classification import TextClassificationTask

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.families.base import BlockModel
    from pmqbench.tasks.text import Batch

    Examples = tuple[dict[str, Tensor], list[list[int]], Tensor]


@PROTOCOLS.register("zero_shot_text")
@dataclass(frozen=True)
class ZeroShotText:
    """Batches are token ids and masks; an answer is the class of the largest logit."""

    task_class = TextClassificationTask
    uses_heads = True
    base_files = ("tokenizer.json", "config.json")

    def calibration_batches(
        self, split: Path, base: Path, task: str, samples: int, seed: int, batch_size: int
    ) -> Sequence[Batch]:
        """Texts alone."""
        from pmqbench.tasks.text import batched, drawn_examples, encode, encoder_tokenizer

        texts = [text for text, _ in drawn_examples(split, task, samples, seed)]
        return batched(encode(encoder_tokenizer(base), texts), batch_size)

    def examples(self, split: Path, assets: Assets) -> Examples:
        """Head, token ids of each text, labels."""
        import torch

        from pmqbench.tasks.text import encode, encoder_tokenizer, load_examples

        texts, labels = zip(*load_examples(split), strict=True)
        return (
            load_head(assets.head),
            encode(encoder_tokenizer(assets.base), texts),
            torch.tensor([int(label) for label in labels]),
        )

    def evaluate(self, model: BlockModel, examples: Examples, metric: str, batch_size: int, device: str, where: str) -> Score:
        """Top-1 accuracy and cross-entropy; texts of like length share a batch."""
        import torch

        from pmqbench.tasks.text import batched

        head, tokens, labels = examples
        order = torch.tensor(sorted(range(len(tokens)), key=lambda index: len(tokens[index])))
        inputs = batched([tokens[index] for index in order], batch_size)
        outcome = classify(model, head, zip(inputs, labels[order].split(batch_size), strict=True), device, where)
        back = order.argsort()
        return Outcome(outcome.correct[back], outcome.loss[back]).score()
