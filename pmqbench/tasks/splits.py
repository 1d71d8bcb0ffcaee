"""A task's split as a safetensors file: images uint8 (n, 3, h, w) and labels int64 (n,)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from pmqbench.errors import DataError
from pmqbench.files import atomic_path

if TYPE_CHECKING:
    import torch


def save_split(path: str | Path, images: np.ndarray, labels: np.ndarray, classes: int, where: str) -> None:
    """Checks a split and writes it whole or not at all.

    Raises:
        DataError: no examples, shapes that do not fit, or labels outside 0 .. classes - 1.
    """
    if len(images) == 0:
        raise DataError("the split is empty.", where=where, remedy="Check the data source.")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or len(images) != len(labels):
        raise DataError(
            f"images {images.dtype} {images.shape} with {len(labels)} labels.",
            where=where,
            remedy="A data source yields uint8 images (n, 3, h, w) and as many labels.",
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels from {labels.min()} to {labels.max()}, but the task has {classes} classes.",
            where=where,
            remedy="The task's class names and its data are of different tasks or versions.",
        )
    with atomic_path(path) as temporary:
        save_file({"images": np.ascontiguousarray(images), "labels": labels.astype(np.int64)}, temporary)


def load_arrays(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels as numpy arrays."""
    split = load_file(path)
    return split["images"], split["labels"]


def load_split(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels as tensors."""
    import torch

    images, labels = load_arrays(path)
    return torch.from_numpy(images), torch.from_numpy(labels)


def draw_sample(total: int, count: int, seed: int, task: str) -> np.ndarray:
    """Indices of a calibration sample without replacement, int64 (min(count, total),); each task has its own stream.

    Raises:
        DataError: an empty split or sample.
    """
    if min(total, count) < 1:
        raise DataError("the calibration set is empty.", where=f"task {task}", remedy="Give it training examples.")
    rng = np.random.default_rng([seed, *task.encode()])
    return rng.choice(total, size=min(count, total), replace=False)
