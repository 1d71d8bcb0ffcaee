"""Text classification tasks: definitions, labels as numbers and as class names, splits, batches, and scores."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Features, Value

from pmqbench.checkpoints import save_checkpoint
from pmqbench.errors import ConfigError, DataError
from pmqbench.evaluation.base import Assets
from pmqbench.evaluation.protocols.zero_shot_text import ZeroShotText
from pmqbench.files import write_json
from pmqbench.tasks.kinds.base import make_task
from pmqbench.tasks.text import encoder_tokenizer, load_examples
from tests.families.bert_toy import write_tokenizer

CLASSES = ["world", "sport", "trade and work"]


def task(path=".", **changes):
    source = {"name": "local_text", "path": str(path), "splits": {"train": "train", "test": "test"}}
    definition = {"input": "{title}: {text}", "classnames": CLASSES, "templates": ["it is about {}"], "source": source}
    return make_task("news", {"kind": "text_classification", **definition, **changes}, "task news")


def test_texts_of_the_same_rows_and_words_are_other_data_as_answers(tmp_path):
    as_answers = {"input": "{title}: {text}", "target": CLASSES, "source": task(tmp_path).source}
    assert make_task("news", {"kind": "text_to_text", **as_answers}, "task news").data_id != task(tmp_path).data_id


@pytest.mark.parametrize(
    ("label", "number"), [(0, "0"), (2, "2"), ("sport", "1"), ("trade and work", "2"), (" world ", "0"), ("1", "1")]
)
def test_labels_are_numbers_or_class_names(label, number):
    assert task().example({"title": "A", "text": "b", "label": label}, "") == ("A: b", number)


def test_class_names_that_are_digits_go_before_numbers():
    made = task(classnames=["1", "0"])
    assert [made.example({"title": "", "text": "b", "label": label}, "")[1] for label in ("1", "0")] == ["0", "1"]


@pytest.mark.parametrize("label", [3, -1, "weather", None, True, 1.5, "-1"])
def test_foreign_labels_are_named(label):
    with pytest.raises(DataError, match=r"row 4: label .* is no class; the task has 3"):
        task().example({"title": "A", "text": "b", "label": label}, "row 4")


def test_missing_columns_are_named():
    with pytest.raises(DataError, match="no column 'text'; there are: title, label"):
        task().example({"title": "A", "label": 0}, "")


def rows(count):
    return [{"title": f"t{i}", "text": f"word {i}", "label": i % 3} for i in range(count)]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_splits_are_written(tmp_path, suffix):
    for split in ("train", "test"):
        path = tmp_path / f"{split}{suffix}"
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows(30)), path)
        elif suffix == ".csv":
            path.write_text("title,text,label\n" + "".join(f"t{i},word {i},{CLASSES[i % 3]}\n" for i in range(30)))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows(30)))
    made = task(tmp_path)
    assert made.write_split(tmp_path / "out.jsonl", made.data_source().split(made, "test"), "") == 30
    assert load_examples(tmp_path / "out.jsonl")[4] == ("t4: word 4", "1")


def test_class_names_are_compared_with_the_data_sets_own(tmp_path):
    features = Features(
        title=Value("string"), text=Value("string"), label=ClassLabel(names=["sport", "world", "trade and work"])
    )
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(rows(30), features.arrow_schema), tmp_path / f"{split}.parquet")
    made = task(tmp_path)
    with pytest.raises(DataError, match='label 0 is "sport" in the data set and "world" in the task'):
        made.data_source().split(made, "test")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classnames": ["one"]}, "classnames"),
        ({"templates": ["no place"]}, "templates"),
        ({"templates": ["{} or {}"]}, "templates"),
        ({"templates": ["{} in {braces}"]}, "templates"),
        ({"metric": "spearman"}, "metric"),
        ({"target": ["a", "b"]}, 'unknown key "target"'),
    ],
)
def test_bad_definitions_are_named(change, words):
    with pytest.raises(ConfigError, match=words):
        task(**change)


class Counting(torch.nn.Module):
    """A "sentence encoder": how often the first tokens after the special ones occur in a text."""

    def forward(self, batch):
        counts = [(batch["input_ids"] == token) & batch["attention_mask"].bool() for token in range(4, 7)]
        return torch.stack([count.sum(1) for count in counts], 1).float()


@pytest.fixture
def base(tmp_path):
    write_tokenizer(tmp_path, ["red", "green", "blue", "dot"])
    write_json(tmp_path / "config.json", {"max_position_embeddings": 6, "vocab_size": 8})
    head = {"classes": torch.eye(3), "logit_scale": torch.tensor(20.0)}
    save_checkpoint(tmp_path / "head.safetensors", head)
    return tmp_path


def write(path, pairs):
    path.write_text("".join(json.dumps({"input": text, "target": str(label)}) + "\n" for text, label in pairs))
    return path


@pytest.mark.parametrize("size", [1, 2, 10])
def test_texts_of_all_lengths_keep_their_place(base, size):
    pairs = [("red dot dot", 0), ("green", 1), ("blue blue dot dot", 2), ("dot red", 1), ("green dot", 1)]
    protocol = ZeroShotText()
    examples = protocol.examples(write(base / "test.jsonl", pairs), Assets(base, base / "head.safetensors"))
    score = protocol.evaluate(Counting(), examples, "accuracy", size, "cpu", "")
    assert score.correct.tolist() == [True, True, True, False, True]
    assert score.value == pytest.approx(0.8)
    assert score.standard_error == pytest.approx(np.sqrt(0.8 * 0.2 / 5))
    right, wrong = (-np.log(np.exp(20 * x) / (np.exp(20) + 2)) for x in (1, 0))
    assert score.loss == pytest.approx((4 * right + wrong) / 5, rel=1e-5)


def test_texts_are_cut_at_the_models_positions(base):
    """Whatever the tokenizer file says of length and padding."""
    split = write(base / "train.jsonl", [("dot " * count, 0) for count in (1, 2, 9)])
    batches = ZeroShotText().calibration_batches(split, base, "news", 3, seed=0, batch_size=2)
    assert [len(batch["input_ids"]) for batch in batches] == [2, 1]
    assert sorted(int(count) for batch in batches for count in batch["attention_mask"].sum(1)) == [3, 4, 6]


def test_a_tokenizer_with_more_tokens_than_the_model_has_embeddings_is_named(base):
    write_json(base / "config.json", {"max_position_embeddings": 6, "vocab_size": 7})
    with pytest.raises(DataError, match=r"tokenizer\.json: it has 8 tokens, the model embeddings of 7"):
        encoder_tokenizer(base)
