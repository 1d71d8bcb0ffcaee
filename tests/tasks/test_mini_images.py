"""The mini suite's images: the same every time, never shared between splits, in the order of the class names."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pmqbench.errors import ConfigError
from pmqbench.tasks.definitions import load_task
from pmqbench.tasks.mini import GENERATORS, SPLITS, canvas, digits, generate, landuse, signs, textures

ROOT = Path(__file__).parents[2]
DRAWN = {"textures": textures.PATTERNS, "signs": signs.SIGNS, "landuse": landuse.LANDSCAPES}
SMALL = {"train": 60, "validation": 36, "test": 48}


@pytest.fixture
def small(monkeypatch):
    """Few images a split; digits' validation and test stay whole, since each handwriting is one image."""
    monkeypatch.setattr(canvas, "COUNTS", SMALL)
    monkeypatch.setattr(digits, "COUNTS", SMALL)


def digest_elsewhere() -> str:
    """The images' checksum as another process computes it."""
    code = "from tests.tasks.test_mini_images import digest; print(digest())"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def digest() -> str:
    import hashlib

    canvas.COUNTS = digits.COUNTS = SMALL
    parts = [part.tobytes() for task in GENERATORS for split in ("train", "validation") for part in generate(task, split, 3)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("task", GENERATORS)
def test_shapes_and_class_balance(small, task):
    for split in SPLITS:
        images, labels = generate(task, split, 0)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert images.shape == (len(labels), 3, 16, 16)
        counts = np.bincount(labels, minlength=len(load_task(task).classnames))
        assert len(counts) == len(load_task(task).classnames)
        assert counts.min() >= 1
        if task in DRAWN:
            assert counts.max() - counts.min() <= 1


def test_another_process_draws_the_same_images(small):
    assert digest_elsewhere() == digest()


@pytest.mark.parametrize("task", GENERATORS)
def test_no_image_occurs_twice_across_splits_or_seeds(small, task):
    images = np.concatenate([generate(task, split, seed)[0] for split in SPLITS for seed in (0, 1)])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_handwritings_are_dealt_out_whole_and_once():
    from sklearn.datasets import load_digits

    dealt = [digits.handwritings(split) for split in SPLITS]
    ink = np.concatenate([part for part, _ in dealt]) * 16
    together = np.column_stack([ink.reshape(len(ink), -1), np.concatenate([labels for _, labels in dealt])])
    real = np.column_stack([load_digits().data, load_digits().target])
    assert np.array_equal(together[np.lexsort(together.T)], real[np.lexsort(real.T)])
    assert len(np.unique(real, axis=0)) == len(real)  # so no handwriting can be in two splits


def test_each_test_handwriting_is_shown_once():
    labels = generate("digits", "test", 0)[1]
    assert sorted(labels) == sorted(digits.handwritings("test")[1])


@pytest.mark.parametrize("task", DRAWN)
def test_class_names_stand_in_the_order_of_the_drawings(task):
    assert list(load_task(task).classnames) == list(DRAWN[task])


def test_digit_names_count_from_zero():
    names = "zero one two three four five six seven eight nine"
    assert " ".join(load_task("digits").classnames) == names


def test_generating_imports_no_torch():
    code = "import sys; from pmqbench.tasks.mini import generate, canvas; canvas.COUNTS = {'test': 12}; "
    code += "generate('signs', 'test', 0); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ConfigError, match=r'no task "texture".*Did you mean "textures"'):
        generate("texture", "train", 0)
    with pytest.raises(ConfigError, match=r'no split "valid".*Did you mean "validation"'):
        generate("signs", "valid", 0)
