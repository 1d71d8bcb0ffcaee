"""Which files hold a split: by card, by name, and what is refused because a row would count twice or not at all."""

import logging

import pytest

from pmqbench.errors import DataError
from pmqbench.tasks.shards import shards, stated_classes

NAMES = [
    "README.md",
    "data/train-00000-of-00002.parquet",
    "data/train-00001-of-00002.parquet",
    "data/test-00000-of-00001-0a1b2c.parquet",
    "data/contrast-00000-of-00001.parquet",
    "data/test_contrast-00000-of-00001.parquet",
    "digits/train-00000-of-00001.parquet",
    "default/test/0000.parquet",
]
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - {split: test, path: [data/test-*]}
- config_name: digits
  data_files:
  - {split: train, path: digits/*}
---
text
"""


@pytest.mark.parametrize(
    ("split", "config", "card", "expected"),
    [
        ("train", "digits", "", [6]),
        ("train", "data", "", [1, 2]),
        ("test", "default", "", [7]),
        ("train", None, CARD, [1, 2]),
        ("test", None, CARD, [3]),
        ("train", "digits", CARD, [6]),
        ("test", "digits", CARD, []),
        ("train", None, CARD.replace("digits\n", "digits\n  default: true\n"), [6]),
        ("valid", None, "", []),
    ],
)
def test_shards_of_a_split(split, config, card, expected):
    assert sorted(shards(NAMES, split, "here", config, card)) == sorted(NAMES[i] for i in expected)


SEVERAL = CARD.replace("config_name: default", "config_name: letters")
INFO = "---\ndataset_info:\n- config_name: letters\n- config_name: digits\n---\n"


@pytest.mark.parametrize(
    ("names", "config", "card", "words"),
    [
        (NAMES, None, SEVERAL, "2 configurations and none is chosen: letters, digits.* Set `config`"),
        (NAMES, None, INFO, "2 configurations and none is chosen: letters, digits"),
        (NAMES, "digitz", SEVERAL, 'no configuration "digitz".* Did you mean "digits"'),
        (NAMES, "digitz", "", 'no configuration "digitz".* Did you mean "digits"'),
        (NAMES, None, "", '2 folders hold split "train": data/, digits/'),
        (["train.parquet", "train.arrow"], None, "", 'split "train" is there 2 times: train.arrow, train.parquet'),
        (["train.parquet", "train-00000-of-00001.parquet"], None, "", 'split "train" is there 2 times'),
        (["train.parquet", "train/0.parquet"], None, "", 'split "train" is there 2 times'),
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], None, "", "1 of the 3 shards of train.*: number 1"),
        (["train-00000-of-00001-a.parquet", "train-00000-of-00001-b.parquet"], None, "", "there 2 times instead of 1"),
        (["data/train-00001-of-00002.parquet"], None, CARD, "1 of the 2 shards of data/train are missing: number 0"),
    ],
)
def test_what_would_drop_or_double_rows_is_refused(names, config, card, words):
    with pytest.raises(DataError, match=f"task a, split train.*{words}"):
        shards(names, "train", "task a, split train", config, card)


def test_cache_files_are_left_out_and_named(caplog):
    names = ["train/data-00000-of-00001.arrow", "train/cache-1f.arrow", "train/cache-2f.arrow", "train/state.json"]
    with caplog.at_level(logging.WARNING):
        assert shards(names, "train", "task a") == names[:1]
    assert "task a: 2 cache files" in caplog.text
    assert "train/cache-1f.arrow, train/cache-2f.arrow" in caplog.text


CLASSES = """---
dataset_info:
- config_name: a
  features:
  - name: label
    dtype: {class_label: {names: {'1': dog, '0': cat}}}
- config_name: b
  features:
  - {name: label, dtype: int64}
---
"""


@pytest.mark.parametrize(("config", "label", "names"), [("a", "label", ["cat", "dog"]), ("b", "label", None), ("a", "x", None)])
def test_class_names_of_a_card(config, label, names):
    assert stated_classes(CLASSES, config, label) == names
