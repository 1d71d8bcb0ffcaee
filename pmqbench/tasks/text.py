"""A text task's split: a JSON-lines file of {"input", "target"}, and how it becomes token ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pmqbench.errors import DataError
from pmqbench.files import read_json, write_text
from pmqbench.tasks.splits import draw_sample

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

Example = tuple[str, str]
Batch = Mapping[str, "Tensor"]
MAX_INPUT_TOKENS = 512
MAX_ANSWER_TOKENS = 10  # the start token included: `max_length` of the reference protocol
PADDING = 0  # any token would do: masks say what is padding


def save_examples(path: str | Path, examples: Sequence[Example], where: str) -> None:
    """Writes (prompt, target) pairs whole or not at all; DataError if there is none or a text is empty or no text."""
    if not examples:
        raise DataError("the split is empty.", where=where, remedy="Check the data source.")
    for index, example in enumerate(examples):
        if not all(text.strip() for text in example):
            raise DataError(f"example {index} has an empty prompt or target.", where=where, remedy="Remove or fill it.")
        if any("\ud800" <= letter <= "\udfff" for text in example for letter in text):
            raise DataError(f"example {index} has half a character (a lone surrogate).", where=where, remedy="Remove it.")
    lines = (json.dumps({"input": prompt, "target": target}, ensure_ascii=False) for prompt, target in examples)
    write_text(path, "".join(f"{line}\n" for line in lines))


def load_examples(path: str | Path) -> list[Example]:
    """The (prompt, target) pairs of a file that `save_examples` wrote."""
    with open(path, encoding="utf-8") as handle:
        return [(row["input"], row["target"]) for row in map(json.loads, handle)]


def drawn_examples(path: str | Path, task: str, count: int, seed: int) -> list[Example]:
    """A calibration sample of a split's examples, min(count, n) of them."""
    examples = load_examples(path)
    return [examples[index] for index in draw_sample(len(examples), count, seed, task)]


def load_tokenizer(path: str | Path, max_tokens: int = MAX_INPUT_TOKENS) -> Tokenizer:
    """The tokenizer of a tokenizer.json, cutting texts at `max_tokens`; DataError if the file is none."""
    from tokenizers import Tokenizer

    if not Path(path).is_file():
        raise DataError("there is no such tokenizer.", where=str(path), remedy="Put the base's tokenizer.json there.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises no narrower class
        raise DataError(f"not a tokenizer ({error}).", where=str(path), remedy="Use the base's tokenizer.json.") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def encoder_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of an encoder's folder, which cuts texts at as many tokens as the model has positions.

    Raises:
        DataError: it has tokens that the model has no embedding of.
    """
    path, config = folder / "tokenizer.json", read_json(folder / "config.json")
    tokenizer = load_tokenizer(path, config["max_position_embeddings"])
    if tokenizer.get_vocab_size() > config["vocab_size"]:
        what = f"it has {tokenizer.get_vocab_size()} tokens, the model embeddings of {config['vocab_size']}."
        raise DataError(what, where=str(path.resolve()), remedy="Use the tokenizer that the model was saved with.")
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, with the end token."""
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def check_targets(tokenizer: Tokenizer, examples: Sequence[Example], where: str) -> None:
    """Raises DataError, with an example, for targets that no answer can be: too long, or not as the tokenizer writes."""
    prompts = {target.strip(): prompt for prompt, target in reversed(examples)}
    for target, ids in zip(prompts, encode(tokenizer, list(prompts)), strict=True):
        length, written = len(ids) - 1, tokenizer.decode(ids).strip()  # without the end token
        what = f'the target "{target}" of the prompt "{prompts[target]:.100}"'
        if length > MAX_ANSWER_TOKENS - 1:
            what += f" has {length} tokens; answers end after {MAX_ANSWER_TOKENS - 1}."
            raise DataError(what, where=where, remedy="Shorten it (`target` of the task, or the data's labels).")
        if written != target:
            what += f' is "{written}" when the base\'s tokenizer has encoded and decoded it, so no answer can be equal to it.'
            raise DataError(what, where=where, remedy="Write targets as the tokenizer does (spaces, case, characters).")


def padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids, padded on the right, and masks (1: token, 0: padding); int64 (n, longest)."""
    import torch

    ids = torch.full((len(sequences), max(map(len, sequences))), PADDING)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return ids, mask


def batched(sequences: Sequence[Sequence[int]], batch_size: int) -> list[Batch]:
    """Batches of token ids and masks, in order."""
    parts = [padded(sequences[begin : begin + batch_size]) for begin in range(0, len(sequences), batch_size)]
    return [{"input_ids": ids, "attention_mask": mask} for ids, mask in parts]


def teacher_forced(tokenizer: Tokenizer, examples: Sequence[Example], batch_size: int, start: int) -> list[Batch]:
    """Batches in which the decoder has read the target up to its last token: `start`, then the target without its end."""
    prompts, targets = (encode(tokenizer, texts) for texts in zip(*examples, strict=True))
    batches = []
    for begin in range(0, len(prompts), batch_size):
        ids, mask = padded(prompts[begin : begin + batch_size])
        decoder_ids, decoder_mask = padded([[start, *target[:-1]] for target in targets[begin : begin + batch_size]])
        batches.append(
            {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoder_ids, "decoder_attention_mask": decoder_mask}
        )
    return batches
