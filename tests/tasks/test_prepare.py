"""A task's three splits as they are written: disjoint, and a manifest that says what was seen."""

import json
import logging
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pmqbench.errors import ConfigError, DataError
from pmqbench.tasks.definitions import SPLITS, load_task
from pmqbench.tasks.kinds.base import make_task
from pmqbench.tasks.overlap import fingerprints
from pmqbench.tasks.prepare import prepare
from pmqbench.tasks.splits import load_arrays, save_split
from pmqbench.tasks.text import load_examples, save_examples


def write_images(folder, split, numbers, classes=("cat", "dog")):
    """One image per number, whose pixels it decides, dealt to the classes in turn."""
    for index, number in enumerate(numbers):
        place = folder / split / classes[index % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (10, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index:03}.png")


def image_task(folder, **options):
    source = {"name": "local", "path": str(folder), "image_size": 8, **options}
    return make_task("pets", {"classnames": ["cat", "dog"], "templates": ["{}"], "source": source}, "task pets")


def write_rows(folder, split, texts):
    lines = [json.dumps({"text": text, "label": i % 2}) + "\n" for i, text in enumerate(texts)]
    (folder / f"{split}.jsonl").write_text("".join(lines))


def text_task(folder, **options):
    source = {"name": "local_text", "path": str(folder), **options}
    return make_task("mood", {"kind": "text_to_text", "input": "{text}", "target": ["bad", "good"], "source": source}, "mood")


def made(task, folder):
    return prepare(task, {split: folder / f"made/{split}{task.suffix}" for split in SPLITS})


def words(*numbers):
    return [f"text {number}" for number in range(*numbers)]


def test_a_split_without_a_folder_is_named(tmp_path):
    write_images(tmp_path, "train", range(30))
    with pytest.raises(DataError, match=r'task pets, split test: there is neither a folder ".*/test" nor a table'):
        made(image_task(tmp_path), tmp_path)


def test_disjoint_splits_say_nothing(tmp_path, caplog):
    write_images(tmp_path, "train", range(30))
    write_images(tmp_path, "test", range(30, 40))
    manifest = made(image_task(tmp_path), tmp_path)
    assert manifest["examples"] == {"train": 27, "validation": 3, "test": 10}
    assert (manifest["overlap"], manifest["allow_overlap"], manifest["commit"]) == ({}, False, None)
    assert manifest["class_names"] == "the labels are class names"
    assert manifest["classes_without_test_examples"] == []
    assert caplog.text == ""


@pytest.mark.parametrize(
    "splits", [{"train": "test", "test": "test"}, {"train": "train", "validation": "test", "test": "test"}]
)
@pytest.mark.parametrize("task", [image_task, text_task])
def test_a_split_that_is_tested_on_and_trained_or_tuned_on(tmp_path, splits, task):
    with pytest.raises(ConfigError, match=r"source\.splits: (train|validation) and test are the same.*allow_overlap: true"):
        task(tmp_path, splits=splits)


def test_overlap_that_the_config_allows_is_in_manifest_and_warnings(tmp_path, caplog):
    write_images(tmp_path, "test", range(30))
    with caplog.at_level(logging.WARNING):
        manifest = made(image_task(tmp_path, splits={"train": "test", "test": "test"}, allow_overlap=True), tmp_path)
    assert manifest["allow_overlap"]
    assert manifest["overlap"] == {
        "test in train": {"examples": 27, "share": 0.9},
        "test in validation": {"examples": 3, "share": 0.1},
    }
    assert "task pets: 27 of 30 test examples (90.00 %) are also in the train split; `allow_overlap` lets them." in caplog.text


def test_some_rows_in_two_splits_are_counted(tmp_path, caplog):
    write_rows(tmp_path, "train", words(50))
    write_rows(tmp_path, "validation", words(50, 60))
    write_rows(tmp_path, "test", [*words(60, 70), "text 3", "text 50"])
    splits = {split: split for split in SPLITS}
    with caplog.at_level(logging.WARNING):
        manifest = made(text_task(tmp_path, splits=splits), tmp_path)
    assert manifest["overlap"] == {
        "test in train": {"examples": 1, "share": 0.083333},
        "test in validation": {"examples": 1, "share": 0.083333},
    }
    assert "task mood: 1 of 12 test examples (8.33 %) are also in the train split" in caplog.text
    assert manifest["class_names"] == "not checked: the data set has none"


def test_copies_of_pixels_are_found_under_other_names_and_formats(tmp_path):
    write_images(tmp_path, "train", range(30))
    for index, path in enumerate(sorted((tmp_path / "train").rglob("*.png"))):
        place = tmp_path / "test" / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(place / f"other-{index}.bmp")
    with pytest.raises(DataError, match=r"task pets: every example of train is also in test\."):
        made(image_task(tmp_path), tmp_path)


def test_a_small_split_within_a_large_one_is_found(tmp_path):
    write_rows(tmp_path, "train", words(300))
    write_rows(tmp_path, "test", words(5))
    with pytest.raises(DataError, match="every example of test is also in train"):
        made(text_task(tmp_path, train_examples=290, validation_examples=1), tmp_path)


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_one_file_under_two_names_is_refused_before_it_is_read(tmp_path, link):
    write_rows(tmp_path, "train", words(1000))
    getattr(tmp_path / "test.jsonl", link)(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match=r"train and test read the same file: .*train\.jsonl is .*test\.jsonl"):
        made(text_task(tmp_path, train_examples=1), tmp_path)
    assert not (tmp_path / "made").exists()


def test_a_folder_under_two_names_is_refused(tmp_path):
    write_images(tmp_path, "train", range(30))
    (tmp_path / "test").symlink_to(tmp_path / "train")
    with pytest.raises(DataError, match="train and test read the same file"):
        made(image_task(tmp_path), tmp_path)


@pytest.mark.parametrize("validation", [{}, {"validation": "train"}])
def test_drawn_validation_never_shares_a_row_with_training(tmp_path, validation):
    write_rows(tmp_path, "train", words(200))
    write_rows(tmp_path, "test", words(200, 210))
    splits = {"train": "train", "test": "test", **validation}
    manifest = made(text_task(tmp_path, splits=splits, train_examples=500, validation_examples=500), tmp_path)
    train, held = (set(load_examples(tmp_path / f"made/{split}.jsonl")) for split in ("train", "validation"))
    assert (len(train), len(held), len(train & held)) == (180, 20, 0)
    assert manifest["overlap"] == {}


def test_a_training_split_too_small_for_validation(tmp_path):
    write_rows(tmp_path, "train", words(9))
    write_rows(tmp_path, "test", words(20, 30))
    with pytest.raises(DataError, match=r"split validation: of 9 training examples, none can be set aside.*validation: \.\.\."):
        made(text_task(tmp_path), tmp_path)


def test_fingerprints_are_of_content(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (700, 3, 4, 4), dtype=np.uint8)
    images[650] = images[3]
    save_split(tmp_path / "a.safetensors", images, np.arange(700) % 2, 2, "")
    prints = fingerprints(tmp_path / "a.safetensors")
    assert len(prints) == 700
    assert len(set(prints.tolist())) == 699
    assert prints[650] == prints[3]
    save_examples(tmp_path / "b.jsonl", [("same", "yes"), ("same", "no"), ("other\u2028line", "yes")], "")
    one, two, three = fingerprints(tmp_path / "b.jsonl").tolist()
    assert one == two != three


def test_a_class_without_test_images_is_named(tmp_path, caplog):
    write_images(tmp_path, "train", range(30))
    write_images(tmp_path, "test", range(30, 40), classes=("dog",))
    (tmp_path / "test" / "cat").mkdir()
    with caplog.at_level(logging.WARNING):
        manifest = made(image_task(tmp_path), tmp_path)
    assert manifest["classes_without_test_examples"] == ["cat"]
    assert "task pets: 1 of 2 classes have no test example (cat)" in caplog.text


def test_a_word_without_test_rows_is_named(tmp_path, caplog):
    write_rows(tmp_path, "train", words(30))
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": 1}\n')
    with caplog.at_level(logging.WARNING):
        assert made(text_task(tmp_path), tmp_path)["classes_without_test_examples"] == ["bad"]
    assert "task mood: 1 of 2 classes have no test example (bad)" in caplog.text


def test_a_class_without_test_texts_is_named(tmp_path):
    write_rows(tmp_path, "train", words(30))
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": "good"}\n')
    source = {"name": "local_text", "path": str(tmp_path)}
    definition = {"kind": "text_classification", "input": "{text}", "classnames": ["bad", "good"], "templates": ["{}"]}
    manifest = made(make_task("mood", definition | {"source": source}, "task mood"), tmp_path)
    assert manifest["classes_without_test_examples"] == ["bad"]
    assert manifest["class_names"] == "the labels are class names"


def test_another_size_than_the_published_one_is_a_warning(tmp_path, caplog):
    write_rows(tmp_path, "train", words(30))
    write_rows(tmp_path, "test", words(30, 40))
    definition = {"kind": "text_to_text", "input": "{text}", "target": ["bad", "good"], "test_examples": 11}
    task = make_task("mood", definition | {"source": {"name": "local_text", "path": str(tmp_path)}}, "mood")
    with caplog.at_level(logging.WARNING):
        made(task, tmp_path)
    assert "task mood: there are 10 test examples; the published split has 11." in caplog.text


@pytest.mark.parametrize(("names", "warned"), [(["1", "2", "3"], True), (["0", "1", "2"], False), (["a", "b", "c"], False)])
def test_numbers_as_class_names_in_another_order(tmp_path, caplog, names, warned):
    for split, start in {"train": 0, "test": 100}.items():
        rows = [{"text": f"text {start + i}", "label": i % 3} for i in range(30)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    definition = {"kind": "text_to_text", "input": "{text}", "target": names}
    task = make_task("stars", definition | {"source": {"name": "local_text", "path": str(tmp_path)}}, "stars")
    with caplog.at_level(logging.WARNING):
        made(task, tmp_path)
    assert ('label 0 is taken as "1"' in caplog.text) == warned


@pytest.mark.parametrize("kind", ["numbers", "words", "features"])
def test_how_class_names_were_matched_is_told(tmp_path, kind):
    from datasets import ClassLabel, Dataset, Features, Value

    for split, start in {"train": 0, "test": 100}.items():
        labels = [i % 2 for i in range(20)]
        rows = {"text": words(start, start + 20), "label": [("bad", "good")[i] for i in labels] if kind == "words" else labels}
        if kind == "features":
            features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
            Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{split}.parquet")
        else:
            pq.write_table(pa.table(rows), tmp_path / f"{split}.parquet")
    told = {
        "numbers": "not checked: the data set has none",
        "words": "the labels are class names",
        "features": "compared with the data set's own",
    }
    assert made(text_task(tmp_path), tmp_path)["class_names"] == told[kind]


def test_the_mini_suites_data_are_disjoint(tmp_path):
    manifest = made(load_task("signs"), tmp_path)
    assert manifest["overlap"] == {}
    assert manifest["class_names"] == "drawn in the order of the class names"
    assert sum(manifest["examples"].values()) == sum(
        len(load_arrays(tmp_path / f"made/{split}.safetensors")[1]) for split in SPLITS
    )


def test_tables_of_images_are_compared_too(tmp_path):
    write_images(tmp_path / "raw", "train", range(30))
    cells = [path.read_bytes() for path in sorted((tmp_path / "raw").rglob("*.png"))]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": cells, "label": [i % 2 for i in range(30)]}), tmp_path / "data/train.parquet")
    shutil.copy(tmp_path / "data/train.parquet", tmp_path / "data/test.parquet")
    with pytest.raises(DataError, match="every example of train is also in test"):
        made(image_task(tmp_path / "data"), tmp_path)
