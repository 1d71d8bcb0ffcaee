"""Data sets under their real ids, columns and splits, read from the stand-in into the arrays that are kept."""

from dataclasses import replace

import numpy as np
import pytest

from pmqbench.errors import DataError
from pmqbench.tasks.definitions import load_task
from tests.hub.content import TEST, TRAIN, data_files, pinned


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
