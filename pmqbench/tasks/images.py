"""From stored images to what a CLIP tower takes: upright RGB, short side resized (bicubic), centre crop; (3, size, size)."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pmqbench.errors import DataError

BATCH = 256
"""Images decoded before they are written."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded; of the others Pillow knows, some start programs (EPS) and some are hardly ever read."""
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, NotImplementedError, struct.error)
"""What Pillow raises for damaged files."""
DEEP = ("I", "F")
"""Modes that Pillow does not scale when it converts them: 16 bits would become white, fractions black."""
MAX_BYTES = 2**29
"""A larger file is not read: uncompressed, an image of as many pixels as Pillow takes has 360 MB."""
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow raises beyond twice `Image.MAX_IMAGE_PIXELS` pixels, and warns of beyond once as many."""


def prepare(image: Image.Image, size: int) -> np.ndarray:
    """CLIP's preprocessing before normalisation, as transformers' CLIPImageProcessorPil does it.

    Raises:
        ValueError: pixels of more than 8 bits.
    """
    if image.mode.startswith(DEEP):
        raise ValueError(f"its pixels have more than 8 bits a colour, mode {image.mode}")
    rgb = ImageOps.exif_transpose(image).convert("RGB")  # as the `datasets` library hands images out
    short = min(rgb.size)
    wide, high = (int(size * side / short) if side != short else size for side in rgb.size)
    if wide * high > (Image.MAX_IMAGE_PIXELS or float("inf")):
        raise Image.DecompressionBombError(f"with a short side of {size} it has {wide} x {high} pixels")
    resized = rgb.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - size) // 2, (high - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def decode(stored: bytes | Path, size: int, where: str) -> np.ndarray:
    """One stored image, prepared; DataError names the place of an image that cannot be read."""
    if isinstance(stored, Path) and not stored.is_file():  # a pipe would be waited for, for ever
        raise DataError("this is no file, or a link to none.", where=where, remedy="Replace or remove it.")
    if isinstance(stored, Path) and (taken := stored.stat().st_size) > MAX_BYTES:
        what = f"the image is too large ({taken / 1e6:.0f} MB)."
        raise DataError(what, where=where, remedy="Scale it down, or remove it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # From memory: of a file, Pillow would ask for as many bytes as a damaged chunk says that it has.
            whole = io.BytesIO(stored if isinstance(stored, bytes) else stored.read_bytes())
            with Image.open(whole, formats=FORMATS) as image:
                return prepare(image, size)
    except BOMBS as error:
        raise DataError(f"the image is too large ({error}).", where=where, remedy="Scale it down, or remove it.") from error
    except UNREADABLE as error:
        raise DataError(f"the image cannot be read ({error}).", where=where, remedy="Replace, convert or remove it.") from error


def batches(stored: Iterable[tuple[bytes | Path, str]], size: int) -> Iterator[np.ndarray]:
    """(image, its place) one after the other -> batches uint8 (b, 3, size, size)."""
    batch = []
    for image, where in stored:
        batch.append(decode(image, size, where))
        if len(batch) == BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
