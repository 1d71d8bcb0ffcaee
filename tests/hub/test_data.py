"""Data sets under their real ids, columns and splits, read from the stand-in into the arrays that are kept."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

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
def test_revisions_of_what_has_none(revisions, words):
    mine = {"name": "mine", "classnames": ["a", "b"], "templates": ["{}"], "source": {"name": "local", "path": "x"}}
    config = read_config(ROOT / "config" / "clip-vit-b32-ta8.yaml") | {"tasks": ["mnist", mine], "data_revisions": revisions}
    with pytest.raises(ConfigError, match=words):
        load_suite(config)
