"""The text-to-text protocol: a prompt in, greedy answer out, compared with the target text (T5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pmqbench.evaluation.base import PROTOCOLS, Assets, Score
from pmqbench.tasks.definitions import TextTask

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pmqbench.families.base import BlockModel
    from pmqbench.tasks.text import Batch, Example

    Examples = tuple[Tokenizer, list[Example]]

TOKENIZER = "tokenizer.json"


@PROTOCOLS.register("text_to_text")
@dataclass(frozen=True)
class TextToText:
    """Batches are token ids and masks of prompts and, for calibration, of their target texts."""

    task_class = TextTask
    uses_heads = False
    base_files = (TOKENIZER,)

    def calibration_batches(
        self, split: Path, base: Path, task: str, samples: int, seed: int, batch_size: int
    ) -> Sequence[Batch]:
        """Prompts, and target texts that the decoder reads (teacher forcing)."""
        from pmqbench.tasks.splits import draw_sample
        from pmqbench.tasks.text import load_examples, load_tokenizer, teacher_forced

        examples = load_examples(split)
        drawn = [examples[index] for index in draw_sample(len(examples), samples, seed, task)]
        return teacher_forced(load_tokenizer(base / TOKENIZER), drawn, batch_size)

    def examples(self, split: Path, assets: Assets) -> Examples:
        """Tokenizer, and (prompt, target) of each example."""
        from pmqbench.tasks.text import load_examples, load_tokenizer

        return load_tokenizer(assets.base / TOKENIZER), load_examples(split)

    def evaluate(self, model: BlockModel, examples: Examples, metric: str, batch_size: int, device: str, where: str) -> Score:
        """The task's metric over greedy answers; the model itself knows its device."""
        from pmqbench.evaluation.text_to_text import METRICS, answers

        tokenizer, pairs = examples
        prompts, targets = zip(*pairs, strict=True)
        return METRICS[metric](answers(model, tokenizer, prompts, batch_size, where), targets, where)
