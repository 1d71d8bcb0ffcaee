"""Splits on disk and calibration samples."""

import numpy as np
import pytest
import torch

from pmqbench.errors import ConfigError, DataError
from pmqbench.tasks.definitions import known_tasks, load_task
from pmqbench.tasks.kinds.image_classification import ImageTask
from pmqbench.tasks.splits import draw_sample, load_split, save_split

IMAGES = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)


def test_split_round_trip(tmp_path):
    save_split(tmp_path / "s.safetensors", IMAGES, np.array([1, 0]), 2, "task x")
    images, labels = load_split(tmp_path / "s.safetensors")
    assert torch.equal(images, torch.from_numpy(IMAGES))
    assert labels.tolist() == [1, 0]
    assert labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES[:0], np.array([], dtype=int), "empty"),
        (IMAGES, np.array([0, 2]), "labels from 0 to 2, but the task has 2 classes"),
        (IMAGES, np.array([0]), "with 1 labels"),
        (IMAGES.astype(np.float32), np.array([0, 1]), "float32"),
    ],
)
def test_bad_splits_are_refused_and_not_written(tmp_path, images, labels, words):
    with pytest.raises(DataError, match=f"task x.*{words}"):
        save_split(tmp_path / "s.safetensors", images, labels, 2, "task x")
    assert list(tmp_path.iterdir()) == []


def test_samples_are_seeded_disjoint_draws():
    first = draw_sample(1000, 256, 0, "digits")
    assert len(set(first.tolist())) == 256
    assert first.tolist() == draw_sample(1000, 256, 0, "digits").tolist()
    assert first.tolist() != draw_sample(1000, 256, 1, "digits").tolist()
    assert first.tolist() != draw_sample(1000, 256, 0, "signs").tolist()
    assert sorted(draw_sample(10, 256, 0, "x").tolist()) == list(range(10))


def test_an_empty_calibration_set_is_an_error():
    with pytest.raises(DataError, match=r"task digits.*calibration set is empty"):
        draw_sample(0, 256, 0, "digits")


def test_every_definition_is_complete():
    assert known_tasks()
    for name in known_tasks():
        task = load_task(name)
        assert task.data_source() is not None
        if isinstance(task, ImageTask):
            assert len(set(task.classnames)) == len(task.classnames) > 1
            assert all(template.count("{}") == 1 for template in task.templates)


def test_unknown_task_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r'tasks\.0.*unknown task "digit".*Did you mean "digits"'):
        load_task("digit", "tasks.0")
