"""Data sets under their real ids, columns and splits, read from the stand-in into the arrays that are kept."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from pmqbench import pin
from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError, DataError
from pmqbench.tasks.definitions import load_task
from tests.hub.content import ROOT, TEST, TRAIN, data_files, pinned


def publish(hub, name, **changed):
    task = load_task(name)
    hub.add("datasets", task.source["id"], data_files(task, **changed), **pinned(task))
    return task


def split(task, name):
    images, labels = task.data_source().split(task, name)
    return np.concatenate(list(images.batches)), labels


@pytest.mark.parametrize("name", ["eurosat", "svhn", "pcam", "fer2013", "food101", "emnist_letters"])
def test_data_sets_as_the_hub_has_them(here, name):
    """A card that lists files, a configuration, boolean labels, other columns, a pinned conversion, another split."""
    task = publish(here, name)
    images, labels = split(task, "test")
    assert images.shape == (TEST, 3, 224, 224)
    assert labels.tolist() == [i % len(task.classnames) for i in range(TEST)]
    assert not here.fetched("contrast|train")
    train, validation = split(task, "train"), split(task, "validation")
    assert (len(train[1]), len(validation[1])) == (TRAIN - TRAIN // 10, TRAIN // 10)
    assert not {image.tobytes() for image in train[0]} & {image.tobytes() for image in validation[0]}
    assert not here.fetched("contrast")


def test_a_split_that_is_not_there(here):
    task = publish(here, "mnist")
    hub_files = here.repositories["datasets", task.source["id"]].files
    here.add("datasets", task.source["id"], {name: data for name, data in hub_files.items() if "test" not in name})
    with pytest.raises(DataError, match=r'task mnist, split test, dataset ylecun/mnist: no parquet file holds split "test"'):
        split(task, "test")


def test_classes_in_another_order(here):
    task = publish(here, "mnist")
    names = list(task.classnames)
    swapped = replace(task, classnames=(names[1], names[0], *names[2:]))
    with pytest.raises(DataError, match=r'label 0 is "0" in the data set and "1" in the task'):
        split(swapped, "test")


def test_class_names_that_only_the_card_states(here):
    task = load_task("fer2013")
    names = list(task.classnames)
    listed = "".join(f"\n          '{i}': {name}" for i, name in enumerate([names[1], names[0], *names[2:]]))
    features = f"- name: cls\n    dtype:\n      class_label:\n        names:{listed}"
    card = f"---\ndataset_info:\n  features:\n  {features}\n---\n"
    here.add("datasets", task.source["id"], data_files(task) | {"README.md": card.encode()}, **pinned(task))
    with pytest.raises(DataError, match=f'label 0 is "{names[1]}" in the data set and "{names[0]}" in the task'):
        split(task, "test")


def test_several_configurations_and_none_chosen(here):
    task = load_task("mnist")
    card = "---\nconfigs:\n- config_name: cropped\n- config_name: full\n---\n"
    here.add("datasets", task.source["id"], data_files(task) | {"README.md": card.encode()}, **pinned(task))
    with pytest.raises(DataError, match=r"dataset ylecun/mnist: .* 2 configurations and none is chosen: cropped, full"):
        split(task, "test")


def test_a_table_of_the_hub_cannot_name_files_of_this_machine(here, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "mine.png")
    task = load_task("mnist")
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": [str(tmp_path / "mine.png")] * 10, "label": list(range(10))}), buffer)
    files = {f"data/{name}-00000-of-00001.parquet": buffer.getvalue() for name in ("train", "test")}
    here.add("datasets", task.source["id"], files, **pinned(task))
    with pytest.raises(DataError, match=r'row 0: the cell holds a path \(".*mine.png"\) and no image'):
        split(task, "test")


def test_shards_are_fetched_and_verified_once(here, monkeypatch):
    import pmqbench.hub

    verified = []
    monkeypatch.setattr(pmqbench.hub, "verify", lambda repo, listed, file: verified.append(listed.path))
    task = publish(here, "mnist")
    source = task.data_source()
    for name in ("train", "validation", "test"):
        source.files_of(task, name)
        source.split(task, name)
        source.label_check(task, name)
    assert sorted(verified) == ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]


def test_a_suite_is_pinned_to_what_the_hub_has_now(here, tmp_path, monkeypatch, capsys):
    config = read_config(ROOT / "config" / "clip-vit-b32-ta8.yaml") | {"tasks": ["mnist", "dtd"]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(config))
    base = config["base"]
    here.add("models", base["id"], {"config.json": b"{}"}, commit=base["revision"])
    for name in config["tasks"]:
        here.add("models", f"tanganke/clip-vit-base-patch32_{name}", {"config.json": name.encode()})
        here.add("datasets", load_task(name).source["id"], {"README.md": name.encode()})
    monkeypatch.setattr("sys.argv", ["pin", str(tmp_path / "suite.yaml")])
    pin.main()
    pins = yaml.safe_load(capsys.readouterr().out)
    commits = {name: repo.commit for (_, name), repo in here.repositories.items()}
    assert pins["base"] == {"revision": base["revision"]}
    assert pins["experts"]["revisions"] == {n: commits[f"tanganke/clip-vit-base-patch32_{n}"] for n in ("mnist", "dtd")}
    assert pins["data_revisions"] == {"mnist": commits["ylecun/mnist"], "dtd": commits["tanganke/dtd"]}
    suite = load_suite(config | {"experts": config["experts"] | pins["experts"], "data_revisions": pins["data_revisions"]})
    assert [task.source["revision"] for task in suite.tasks] == list(pins["data_revisions"].values())
    assert suite.experts.repository("dtd").revision == pins["experts"]["revisions"]["dtd"]
    del here.repositories["models", "tanganke/clip-vit-base-patch32_dtd"]
    with pytest.raises(SystemExit, match="nothing was pinned: model tanganke/clip-vit-base-patch32_dtd: there is no such repo"):
        pin.main()


@pytest.mark.parametrize(
    ("revisions", "words"),
    [({"mnits": "a"}, 'Did you mean "mnist"'), ({"mine": "a"}, "the data of mine have no revisions: source local")],
)
def test_revisions_of_what_has_none(revisions, words, tmp_path):
    source = {"name": "local", "path": str(tmp_path)}
    mine = {"name": "mine", "classnames": ["a", "b"], "templates": ["{}"], "source": source}
    config = read_config(ROOT / "config" / "clip-vit-b32-ta8.yaml") | {"tasks": ["mnist", mine], "data_revisions": revisions}
    with pytest.raises(ConfigError, match=words):
        load_suite(config)
