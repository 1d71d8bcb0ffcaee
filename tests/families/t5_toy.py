"""Tiny random T5s of the real class, and batches with padding."""

import torch
from transformers import T5Config, T5ForConditionalGeneration

SIZES = {
    "vocab_size": 40,
    "d_model": 24,
    "d_kv": 6,
    "d_ff": 32,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 10,
    "decoder_start_token_id": 0,
}
KINDS = {"plain": {"feed_forward_proj": "relu"}, "gated": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}}


def tiny_t5(kind: str, seed: int = 0, noise: float = 0.0) -> T5ForConditionalGeneration:
    """A random model; "gated" has a vocabulary projection of its own, as FLAN-T5. `noise`: how far an expert is from it."""
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(T5Config(**SIZES, **KINDS[kind])).eval()
    if kind == "gated":
        # transformers 5 ties always in memory; a checkpoint with another projection unties it when it is loaded.
        model.lm_head.weight = torch.nn.Parameter(torch.randn(SIZES["vocab_size"], SIZES["d_model"]))
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases off their initial values, so that a swap shows
            parameter += 0.1 * torch.randn_like(parameter)
        if noise:
            generator = torch.Generator().manual_seed(seed + 1)
            for parameter in model.parameters():
                parameter += noise * torch.randn(parameter.shape, generator=generator)
    return model


def save(model: T5ForConditionalGeneration, folder, kind: str) -> None:
    """Saves as transformers 4 did: the config says whether embeddings are tied."""
    import json

    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = kind == "plain"
    config.pop("scale_decoder_outputs")
    (folder / "config.json").write_text(json.dumps(config))


def batch(lengths, answers, extra=0, seed=0):
    """Random token ids: row i has lengths[i] input tokens and answers[i] answer tokens, and `extra` more padding."""
    generator = torch.Generator().manual_seed(seed)

    def side(counts):
        ids = torch.zeros(len(counts), max(counts) + extra, dtype=torch.long)
        for row, count in enumerate(counts):
            ids[row, :count] = torch.randint(3, SIZES["vocab_size"], (count,), generator=generator)
        return ids, (torch.arange(ids.shape[1]) < torch.tensor(counts)[:, None]).long()

    ids, mask = side(lengths)
    decoder_ids, decoder_mask = side(answers)
    decoder_ids[:, 0] = 0
    return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoder_ids, "decoder_attention_mask": decoder_mask}
