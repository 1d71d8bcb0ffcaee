"""Tiny random BERTs of the real class, a tokenizer in their layout, and batches with padding."""

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def tiny_bert(seed: int = 0, noise: float = 0.0, cls=BertModel, **changes):
    """A random model, its norms and biases off their initial values; `noise`: how far an expert is from it."""
    torch.manual_seed(seed)
    model = cls(BertConfig(**SIZES | changes)).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for parameter in model.parameters() if noise else ():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    return model


def batch(lengths, extra=0, seed=0, padding=0):
    """Random token ids: row i has lengths[i] tokens, and `extra` more padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(lengths), max(lengths) + extra), padding)
    for row, count in enumerate(lengths):
        ids[row, :count] = torch.randint(4, SIZES["vocab_size"], (count,), generator=generator)
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).long()}


def mean_pooled(model, inputs):
    """Sentence embeddings as sentence-transformers makes them of transformers' output."""
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None].float()
    return (hidden * mask).sum(1) / mask.sum(1)


def write_tokenizer(folder, words) -> Tokenizer:
    """Writes tokenizer.json: a word each a token, [CLS] before and [SEP] behind, as BERT's; it pads and cuts, as MiniLM's."""
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=30)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer
