"""The text-to-text protocol: a prompt in, greedy answer out, compared with the target text (T5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pmqbench.evaluation.base import PROTOCOLS, Assets, Score
from pmqbench.families.base import DECODER_START
from pmqbench.tasks.kinds.text_to_text import TextTask

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
    batches_code = "pmqbench.tasks.text"

    def calibration_batches(
        self, split: Path, base: Path, task: str, samples: int, seed: int, batch_size: int
    ) -> Sequence[Batch]:
        """Prompts, and target texts that the decoder reads (teacher forcing)."""
        from pmqbench.tasks.text import check_targets, drawn_examples, load_tokenizer, teacher_forced

        tokenizer, examples = load_tokenizer(base / TOKENIZER), drawn_examples(split, task, samples, seed)
        check_targets(tokenizer, examples, str(split))
        return teacher_forced(tokenizer, examples, batch_size, DECODER_START)

    def examples(self, split: Path, assets: Assets) -> Examples:
        """Tokenizer, and (prompt, target) of each example; DataError for a target that no answer can be equal to."""
        from pmqbench.tasks.text import check_targets, load_examples, load_tokenizer

        tokenizer, examples = load_tokenizer(assets.base / TOKENIZER), load_examples(split)
        check_targets(tokenizer, examples, str(split))
        return tokenizer, examples

    def evaluate(self, model: BlockModel, examples: Examples, metric: str, batch_size: int, device: str, where: str) -> Score:
        """The task's metric over greedy answers; the model itself knows its device."""
        from pmqbench.evaluation.text_to_text import METRICS, answers

        tokenizer, pairs = examples
        prompts, targets = zip(*pairs, strict=True)
        return METRICS[metric](answers(model, tokenizer, prompts, batch_size, where), targets, where)
