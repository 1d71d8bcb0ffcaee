"""Tiny models of the real classes and tiny parquet data sets under the real ids, for the hub's stand-in."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pmqbench.config import load_suite, read_config
from pmqbench.tasks.definitions import load_task

ROOT = Path(__file__).parents[2]
TRAIN, TEST = 40, 16
"""Examples per split."""
VISION = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
}


def publish(hub, suite):
    """Everything that a CLIP suite asks of the hub."""
    config = load_suite(read_config(ROOT / "config" / f"{suite}.yaml"))
    base, tensors = base_files()
    hub.add("models", config.base.id, base, commit=config.base.revision)
    for index, task in enumerate(config.tasks):
        name = config.experts.id.replace("{task}", task.name)
        hub.add("models", name, expert_files(tensors, index))
        hub.add("datasets", task.source["id"], data_files(task), **pinned(task))


def pinned(task):
    revision = task.source["revision"]
    return {"commit": revision} if revision else {}


def base_files():
    """A CLIPModel with its tokenizer and preprocessor, as save_pretrained writes them; and its vision tensors."""
    import tempfile

    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer = trained_tokenizer()
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        CLIPImageProcessor().save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    files |= {"README.md": b"A base.", "pytorch_model.bin": b"a pickle, never to be fetched"}
    return files, {name: tensor.detach() for name, tensor in model.vision_model.state_dict().items()}


def trained_tokenizer():
    """CLIP's tokenizer class with a vocabulary trained on some prompts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    raw = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.train_from_iterator(["a photo of a cat.", "a satellite photo of a forest", *load_task("dtd").classnames], trainer)
    learnt = json.loads(raw.to_str())["model"]
    return CLIPTokenizer(vocab=learnt["vocab"], merges=[tuple(pair) for pair in learnt["merges"]])


def expert_files(tensors, index, **changed):
    """A CLIPVisionModel near the base; every other one with the key prefix of transformers < 5."""
    import torch
    from safetensors.torch import save

    from pmqbench.families.clip import PREFIX

    torch.manual_seed(index + 1)
    prefix = PREFIX if index % 2 else ""
    moved = {prefix + name: t + 0.02 * torch.randn_like(t) for name, t in tensors.items() if t.is_floating_point()}
    config = {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModel"], **VISION, **changed}
    return {"model.safetensors": save(moved), "config.json": json.dumps(config).encode(), "README.md": b"An expert."}


def data_files(task, classes=None, **columns):
    """A task's data set in parquet, in folders as the `datasets` library writes them, with a split that nobody asks for."""
    source = task.source
    names = {"image": source["image"], "label": source["label"]} | columns
    folder = source.get("config") or "data"
    splits = {source["splits"]["train"]: TRAIN, source["splits"]["test"]: TEST, "contrast": 4}
    shards = {
        f"{folder}/{split}-00000-of-00001.parquet": parquet(task, names, count, seed, classes)
        for seed, (split, count) in enumerate(splits.items())
    }
    listed = "".join(f"  - {{split: {split}, path: {folder}/{split}-*}}\n" for split in splits)
    card = f"---\nconfigs:\n- config_name: {source.get('config', 'default')}\n  data_files:\n{listed}---\nA data set.\n"
    return shards | ({"README.md": card.encode()} if task.name == "eurosat" else {})


def parquet(task, names, count, seed, classes):
    """One shard: PNG images whose colour tells the class, and labels as the real data set has them."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    rng = np.random.default_rng(seed)
    classnames = [f"class {i}" for i in range(classes)] if classes else list(task.classnames)
    plain = {"pcam": Value("bool"), "fer2013": Value("int64")}
    labels = np.arange(count) % len(classnames)
    rows = {names["image"]: [{"bytes": png(label, rng), "path": None} for label in labels], names["label"]: labels.tolist()}
    features = {
        names["image"]: ImageFeature(),
        names["label"]: plain[task.name] if task.name in plain else ClassLabel(names=classnames),
    }
    if task.name == "pcam":
        rows[names["label"]] = [bool(label) for label in labels]
    buffer = io.BytesIO()
    Dataset.from_dict(rows, features=Features(features)).to_parquet(buffer)
    return buffer.getvalue()


def png(label, rng):
    pixels = rng.integers(0, 60, (18, 24, 3)) + np.array([label * 37 % 190, label * 91 % 190, label * 53 % 190])
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
