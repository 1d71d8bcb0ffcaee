"""The text-to-text protocol: a prompt in, greedy answer out, compared with the target text (T5).

Scores are exact match, and Spearman's rho of the numbers in answers and targets.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pmqbench.errors import DataError
from pmqbench.evaluation.base import PROTOCOLS, Assets, Score
from pmqbench.families.base import DECODER_START
from pmqbench.heartbeat import each
from pmqbench.tasks.kinds.text_to_text import TextTask

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from pmqbench.families.base import BlockModel
    from pmqbench.tasks.text import Batch, Example

    Examples = tuple[Tokenizer, list[Example]]

log = logging.getLogger(__name__)

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
        tokenizer, pairs = examples
        prompts, targets = zip(*pairs, strict=True)
        return METRICS[metric](answers(model, tokenizer, prompts, batch_size, where), targets, where)


class Generator(Protocol):
    """A model that answers."""

    def generate(self, batch: dict[str, Tensor], max_length: int, where: str) -> Tensor:
        """Token ids and mask of prompts -> token ids of answers."""


def answers(model: Generator, tokenizer: Tokenizer, prompts: Sequence[str], batch_size: int, where: str) -> list[str]:
    """The greedy answer to each prompt, in the order of `prompts`; prompts of like length share a batch."""
    from pmqbench.tasks.text import MAX_ANSWER_TOKENS, encode, padded

    tokens = encode(tokenizer, prompts)
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
    texts = [""] * len(tokens)
    for start in each(range(0, len(order), batch_size), "batches"):
        chosen = order[start : start + batch_size]
        ids, mask = padded([tokens[index] for index in chosen])
        made = model.generate({"input_ids": ids, "attention_mask": mask}, MAX_ANSWER_TOKENS, where)
        for index, text in zip(chosen, tokenizer.decode_batch(made.tolist(), skip_special_tokens=True), strict=True):
            texts[index] = text
    return texts


def exact_match(made: Sequence[str], targets: Sequence[str], where: str) -> Score:
    """Share of answers that are their target, letter by letter but for spaces around; binomial standard error."""
    import numpy as np

    correct = np.array([answer.strip() == target.strip() for answer, target in zip(made, targets, strict=True)])
    accuracy = float(correct.mean())
    return Score(accuracy, math.sqrt(accuracy * (1 - accuracy) / len(correct)), len(correct), correct)


def spearman(made: Sequence[str], targets: Sequence[str], where: str) -> Score:
    """Spearman's rho between the answers and targets as numbers; an answer that is no number counts as 0.

    Standard error: (1 - rho^2) sqrt((1 + rho^2 / 2) / (n - 3)), Bonett and Wright's (2000) for Fisher's z, by the delta method.
    Answers that are all the same have no rank correlation; they score 0, and the log says so.

    Raises:
        DataError: fewer than four examples, or targets that are all the same.
    """
    from scipy.stats import spearmanr

    numbers, wanted = [number(text) for text in made], [number(text) for text in targets]
    if len(wanted) < 4 or len(set(wanted)) == 1:
        what = f"Spearman's rho is not defined on {len(wanted)} examples with {len(set(wanted))} different targets."
        raise DataError(what, where=where, remedy="Use more test examples with numbers as labels, or metric accuracy.")
    if len(set(numbers)) == 1:
        log.warning("%s: every answer is %g, so Spearman's rho is not defined; it counts as 0.", where, numbers[0])
        rho = 0.0
    else:
        rho = float(spearmanr(numbers, wanted).statistic)
    error = (1 - rho**2) * math.sqrt((1 + rho**2 / 2) / (len(numbers) - 3))
    return Score(rho, error, len(numbers), least=-1.0)


def number(text: str) -> float:
    """The number an answer is; 0 if it is none."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


METRICS: dict[str, Callable[[Sequence[str], Sequence[str], str], Score]] = {"accuracy": exact_match, "spearman": spearman}
