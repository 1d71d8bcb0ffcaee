"""A tiny FLAN-T5 with experts, and GLUE in tiny parquet files under the real ids and names, for the hub's stand-in."""

import io
import tempfile
from pathlib import Path

from pmqbench.config import load_suite, read_config
from pmqbench.tasks.kinds.image_classification import ImageTask
from pmqbench.tasks.kinds.text_to_text import TextTask
from tests.hub.content import ROOT
from tests.t5.toy import write_tokenizer

SUITE = "flan-t5-base-glue"
COLUMNS = {
    "cola": ("sentence",),
    "mnli": ("premise", "hypothesis"),
    "mrpc": ("sentence1", "sentence2"),
    "qnli": ("question", "sentence"),
    "qqp": ("question1", "question2"),
    "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence",),
    "stsb": ("sentence1", "sentence2"),
}
NAMES = {
    "cola": ["unacceptable", "acceptable"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qnli": ["entailment", "not_entailment"],
    "qqp": ["not_duplicate", "duplicate"],
    "rte": ["entailment", "not_entailment"],
    "sst2": ["negative", "positive"],
}
"""The label features of nyu-mll/glue; stsb's label is a number from 0 to 5."""
WORDS = ("cats", "dogs", "sleep", "run", "the", "a", "old", "new", "house", "is", "was", "good")


def publish(hub):
    """Everything that the GLUE suite asks of the hub."""
    suite = load_suite(read_config(ROOT / "config" / f"{SUITE}.yaml"))
    base, model = base_files(suite.tasks)
    hub.add("models", suite.base.id, base, commit=suite.base.revision)
    for index, task in enumerate(suite.tasks):
        hub.add("models", suite.experts.id.replace("{task}", task.name), expert_files(model, index))
    files = {name: data for task in suite.tasks for name, data in data_files(task).items()}
    hub.add("datasets", "nyu-mll/glue", files, commit=suite.tasks[0].source["revision"])


def base_files(tasks):
    """A T5ForConditionalGeneration with its tokenizer, and the model."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    assert not any(isinstance(task, ImageTask) for task in tasks)
    with tempfile.TemporaryDirectory() as folder:
        texts = [word for task in tasks for word in (task.input, *(task.target if isinstance(task.target, tuple) else ()))]
        tokenizer = write_tokenizer(Path(folder), [*texts, *WORDS, "0.0 1.0 2.5 3.8 4.5 5.0"], size=250)
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=tokenizer.get_vocab_size(),
            d_model=32,
            d_kv=16,
            d_ff=48,
            num_layers=1,
            num_heads=2,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            decoder_start_token_id=0,
        )
        model = T5ForConditionalGeneration(config)
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        model.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return files | {"README.md": b"A base.", "pytorch_model.bin": b"a pickle, never to be fetched"}, model


def expert_files(model, index):
    """An expert near the base, without a tokenizer."""
    import torch
    from safetensors.torch import save

    generator = torch.Generator().manual_seed(index)
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in copies}
    moved = {name: t + 0.02 * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}
    return {"model.safetensors": save(moved), "config.json": model.config.to_json_string().encode(), "README.md": b"An expert."}


def data_files(task: TextTask, columns=None, names=None):
    """A configuration of GLUE: its splits in use, and one that nobody asks for."""
    name = task.source["config"]
    stored = task.source["splits"]
    return {
        f"{name}/{split}-00000-of-00001.parquet": parquet(count, columns or COLUMNS[name], names or NAMES.get(name), place)
        for place, (split, count) in enumerate(((stored["train"], 30), (stored["test"], 6), ("test_unused", 3)))
    }


def parquet(count, columns, names, place):
    from datasets import ClassLabel, Dataset, Features, Value

    rows = {
        column: [f"{WORDS[i % 12]} {WORDS[(i // 12 + 3 * i + j) % 12]} {WORDS[place]}" for i in range(count)]
        for j, column in enumerate(columns)
    }
    rows |= {"label": [i % len(names) if names else i % 11 / 2 for i in range(count)], "idx": list(range(count))}
    features = {column: Value("string") for column in columns}
    features |= {"label": ClassLabel(names=names) if names else Value("float32"), "idx": Value("int32")}
    buffer = io.BytesIO()
    Dataset.from_dict(rows, features=Features(features)).to_parquet(buffer)
    return buffer.getvalue()
