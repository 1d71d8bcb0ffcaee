"""A tiny T5 suite of two local text tasks: base and experts trained on the spot, run once through the real workflow."""

import itertools
import json
import random
import shutil

import pytest
import yaml

from tests.families.t5_toy import SIZES
from tests.t5.toy import write_tokenizer
from tests.workflow.conftest import PARTS, ROOT, Project

MOODS = {"dull": 0, "poor": 0, "grim": 0, "fine": 1, "nice": 1, "grand": 1}
RATES = {"never": 1.0, "rarely": 2.0, "often": 3.5, "always": 5.0}
THINGS = ("film", "song", "book", "meal", "walk", "game", "play", "trip")
PROMPTS = {"mood": "Is the mood of '{text}' good or bad?", "rate": "Rate: {text}"}


def rows(task, split):
    words, said = (MOODS, "the {} was {}") if task == "mood" else (RATES, "the {} is {} fun")
    pairs = list(itertools.product(THINGS, words))
    random.Random(task).shuffle(pairs)
    chosen = pairs if split == "train" else pairs[:24]
    return [{"text": said.format(thing, word), "label": words[word]} for thing, word in chosen]


def definition(task):
    target = {"target": ["bad", "good"], "metric": "accuracy"} if task == "mood" else {"target": "{:.1f}", "metric": "spearman"}
    source = {"name": "local_text", "path": f"data/{task}", "splits": {"train": "train", "validation": "test", "test": "test"}}
    source["allow_overlap"] = True  # what the models have learnt by heart is what they are asked
    return {"name": task, "kind": "text_to_text", "input": PROMPTS[task], **target, "source": source}


def config():
    calibrated = {"gptq": {}, "awq": {"search_samples": 4}, "epmq": {}, "epmq-expert": {"target_inputs": "expert"}}
    return {
        "suite": "tiny-t5",
        "family": "t5",
        "base": {"source": "local", "path": "models/base"},
        "experts": {"source": "local", "path": "models/{task}"},
        "tasks": [definition(task) for task in PROMPTS],
        "seeds": [0],
        "batch_jobs": True,
        "reference": "gptq",
        "calibration": {"samples": 24, "batch_size": 10},
        "evaluation": {"batch_size": 7},
        "merges": {"ta": {"method": "task_arithmetic", "tune_scaling": [0.4, 0.8]}},
        "quantizers": {"rtn": {"method": "rtn"}}
        | {name: {"method": name.split("-")[0], **options} for name, options in calibrated.items()},
    }


def text_batch(tokenizer, pairs):
    import torch

    sides = []
    for texts in zip(*pairs, strict=True):
        ids = [tokenizer.encode(text).ids for text in texts]
        longest = max(map(len, ids))
        sides.append(torch.tensor([row + [0] * (longest - len(row)) for row in ids]))
    inputs, labels = sides
    return {"input_ids": inputs, "attention_mask": (inputs > 0).long(), "labels": labels.masked_fill(labels == 0, -100)}


def train(model, batch, steps):
    import torch

    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        model(**batch).loss.backward()
        optimiser.step()


def write_models(folder, tokenizer, examples):
    """Base and experts as transformers saves them: gated, with a vocabulary projection of its own."""
    import copy

    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = SIZES | {"vocab_size": tokenizer.get_vocab_size(), "d_model": 32, "d_kv": 16, "num_heads": 2, "d_ff": 48}
    shape = sizes | {"num_decoder_layers": 2, "feed_forward_proj": "gated-gelu", "dropout_rate": 0.0}
    base = T5ForConditionalGeneration(T5Config(**shape, tie_word_embeddings=False))
    base.lm_head.weight = torch.nn.Parameter(torch.randn_like(base.lm_head.weight) * 0.1)
    batches = {task: text_batch(tokenizer, pairs) for task, pairs in examples.items()}
    train(base, text_batch(tokenizer, [pair for pairs in examples.values() for pair in pairs]), 30)
    models = {"base": base} | {task: copy.deepcopy(base) for task in batches}
    for task, batch in batches.items():
        train(models[task], batch, 60)
    for name, model in models.items():
        model.eval().save_pretrained(folder / name)


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """Sources, data, models and config, run to the report."""
    folder = tmp_path_factory.mktemp("t5")
    source, work = folder / "source", folder / "work"
    source.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, source / part)
    examples = {}
    for task in PROMPTS:
        (work / "data" / task).mkdir(parents=True)
        for split in ("train", "test"):
            lines = "".join(json.dumps(row) + "\n" for row in rows(task, split))
            (work / "data" / task / f"{split}.jsonl").write_text(lines)
        words = ["bad", "good"]
        targets = [words[row["label"]] if task == "mood" else f"{row['label']:.1f}" for row in rows(task, "train")]
        prompts = [PROMPTS[task].format(**row) for row in rows(task, "train")]
        examples[task] = list(zip(prompts, targets, strict=True))
    (work / "models/base").mkdir(parents=True)
    tokenizer = write_tokenizer(work / "models/base", [text for pairs in examples.values() for pair in pairs for text in pair])
    write_models(work / "models", tokenizer, examples)
    (work / "t5.yaml").write_text(yaml.safe_dump(config(), sort_keys=False))
    made = Project(source, work)
    made.snakemake("--configfile", "t5.yaml")
    return made
