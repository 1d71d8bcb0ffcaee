"""A task's split as a safetensors file: images uint8 (n, 3, h, w), labels int64 (n,) and a checksum of each example.

Large splits are written batch by batch and read through the file's mapped pages: 32,768 images of 224 pixels take 4.9 GB. So
calibration, which draws some hundred examples, checks these alone; whoever reads a whole split has its SHA-256 in the manifest.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from pmqbench.errors import DataError
from pmqbench.files import atomic_path
from pmqbench.heartbeat import rounds
from pmqbench.integrity import damaged

if TYPE_CHECKING:
    import torch

ROWS = 256
"""Images read at a time."""


@dataclass(frozen=True)
class ImageStream:
    """Images that are decoded as they are written.

    Attributes:
        shape: (n, 3, h, w).
        batches: uint8 (b, 3, h, w) that make n images together.
    """

    shape: tuple[int, ...]
    batches: Iterable[np.ndarray]


def save_split(path: str | Path, images: np.ndarray | ImageStream, labels: np.ndarray, classes: int, where: str) -> None:
    """Checks a split and writes it whole or not at all.

    Raises:
        DataError: no examples, shapes that do not fit, or labels outside 0 .. classes - 1.
    """
    stream = images if isinstance(images, ImageStream) else ImageStream(images.shape, [images])
    if stream.shape[0] == 0:
        raise DataError("the split is empty.", where=where, remedy="Check the data source.")
    if len(stream.shape) != 4 or stream.shape[1] != 3 or stream.shape[0] != len(labels):
        raise _unfit(f"shape {stream.shape} with {len(labels)} labels", where)
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels from {labels.min()} to {labels.max()}, but the task has {classes} classes.",
            where=where,
            remedy="The task's class names and its data are of different tasks or versions.",
        )
    with atomic_path(path) as temporary, open(temporary, "wb") as file, rounds("images", len(labels)) as loop:
        file.write(_header(stream.shape))
        file.write(labels.astype("<i8").tobytes())
        written, checksums = 0, []
        for batch in stream.batches:
            if batch.dtype != np.uint8 or batch.shape[1:] != stream.shape[1:]:
                raise _unfit(f"{batch.dtype} {batch.shape}", where)
            file.write(np.ascontiguousarray(batch).data)
            checksums += example_checksums(batch, labels[written : written + len(batch)])
            written += len(batch)
            loop.advance(len(batch))
        if written != len(labels):
            raise _unfit(f"{written} of them with {len(labels)} labels", where)
        file.write(b"".join(checksums))


def example_checksums(images: np.ndarray, labels: np.ndarray) -> list[bytes]:
    """CRC-32 of each example, image and label: 4 bytes each."""
    crcs = (zlib.crc32(np.ascontiguousarray(image).data, int(label)) for image, label in zip(images, labels, strict=False))
    return [crc.to_bytes(4, "little") for crc in crcs]


def _header(shape: tuple[int, ...]) -> bytes:
    """The head of a safetensors file with labels and, after them, images of `shape` and 4 bytes of checksum for each."""
    start, count = 8 * shape[0], int(np.prod(shape))
    tensors = {
        "labels": {"dtype": "I64", "shape": [shape[0]], "data_offsets": [0, start]},
        "images": {"dtype": "U8", "shape": list(shape), "data_offsets": [start, start + count]},
        "checksums": {"dtype": "U8", "shape": [shape[0], 4], "data_offsets": [start + count, start + count + 4 * shape[0]]},
    }
    text = json.dumps(tensors).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _unfit(what: str, where: str) -> DataError:
    remedy = "A data source yields uint8 images (n, 3, h, w) and as many labels."
    return DataError(f"images {what}.", where=where, remedy=remedy)


def load_arrays(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels as numpy arrays."""
    with _whole(path):
        split = load_file(path)
        return _fitting(split["images"], split["labels"])


def read_labels(path: str | Path) -> np.ndarray:
    """Labels alone, int64 (n,)."""
    with _whole(path), safe_open(path, "numpy") as split:
        return split.get_tensor("labels")


def read_images(path: str | Path) -> Iterator[np.ndarray]:
    """Images in batches, uint8 (b, 3, h, w): a large split is never in memory as a whole."""
    with _whole(path), safe_open(path, "numpy") as split:
        images = split.get_slice("images")
        count = images.get_shape()[0]
        for start in range(0, count, ROWS):
            yield images[start : min(start + ROWS, count)]


def load_split(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels as tensors over the file's mapped pages: only what is used takes memory."""
    from safetensors.torch import load_file as map_file

    with _whole(path):
        split = map_file(path)
        return _fitting(split["images"], split["labels"])


@contextmanager
def _whole(path: str | Path) -> Iterator[None]:
    """DataError for a file that is no split, or not whole."""
    try:
        yield
    except (SafetensorError, KeyError, ValueError) as error:
        what = f"not a whole split ({error})."
        raise DataError(what, where=str(path), remedy="Delete it and run again: it is made from the task's data.") from error


def _fitting(images: Any, labels: Any) -> tuple[Any, Any]:
    """Images and labels; ValueError if they are not one each, of three colours."""
    if images.ndim != 4 or images.shape[1] != 3 or tuple(labels.shape) != (len(images),):
        raise ValueError(f"images {tuple(images.shape)} with labels {tuple(labels.shape)}")
    return images, labels


def drawn_images(path: str | Path, task: str, count: int, seed: int) -> torch.Tensor:
    """A calibration sample of a split's images, uint8 (min(count, n), 3, h, w); DataError if one is not what was written."""
    from safetensors.torch import load_file as map_file

    split = map_file(path)
    drawn = draw_sample(len(split["labels"]), count, seed, task)
    images, labels, stated = (split[name][drawn] for name in ("images", "labels", "checksums"))
    if b"".join(example_checksums(images.numpy(), labels.numpy())) != stated.numpy().tobytes():
        raise damaged(Path(path))
    return images


def draw_sample(total: int, count: int, seed: int, task: str) -> np.ndarray:
    """Indices of a calibration sample without replacement, int64 (min(count, total),); each task has its own stream.

    Raises:
        DataError: an empty split or sample.
    """
    if min(total, count) < 1:
        raise DataError("the calibration set is empty.", where=f"task {task}", remedy="Give it training examples.")
    rng = np.random.default_rng([seed, *task.encode()])
    return rng.choice(total, size=min(count, total), replace=False)
