"""What the drawn domains share: colours, soft noise, fonts, and the camera that makes a 16 x 16 photograph of a drawing.

Drawings are made at four times the final size and shrunk, so that edges fall between pixels as they do in photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageFont

from pmqbench.tasks.sources.mini import COUNTS

SIZE = 16
"""Side of a finished image, pixels."""
LARGE = 4 * SIZE
"""Side of a drawing before it is shrunk, pixels."""
NOISE = (5.0, 22.0)
"""Range of the standard deviation of an image's pixel noise, grey levels of 255."""
CONTRAST = 100.0
"""Least difference in brightness of the two colours of a drawing, grey levels of 255."""
LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in perceived brightness (ITU-R BT.601)."""

Colour = tuple[int, int, int]
Drawing = Callable[[np.random.Generator], Image.Image]


def draw_split(drawings: Mapping[str, Drawing], split: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Photographs of the drawings, every class equally often up to one image, in random order.

    Returns:
        Images, uint8 (n, 3, 16, 16), and labels, int64 (n,): positions in `drawings`.
    """
    painters = list(drawings.values())
    labels = rng.permutation(np.arange(COUNTS[split]) % len(painters))
    return np.stack([photograph(painters[label](rng), rng) for label in labels]), labels


def photograph(drawing: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Shrinks a drawing of any size to uint8 (3, 16, 16) with random blur, exposure and pixel noise."""
    scale = drawing.width / SIZE
    blurred = drawing.filter(ImageFilter.GaussianBlur(scale * rng.uniform(0.0, 0.5)))
    pixels = np.asarray(blurred.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float64)
    exposed = (pixels - 128.0) * rng.uniform(0.6, 1.1) + 128.0 + rng.uniform(-30.0, 30.0)
    noisy = exposed + rng.normal(0.0, rng.uniform(*NOISE), exposed.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8).transpose(2, 0, 1)


def vary(colour: Colour, rng: np.random.Generator, spread: float = 25.0) -> Colour:
    """`colour` with normal noise of standard deviation `spread` on every channel."""
    red, green, blue = np.clip(np.rint(rng.normal(colour, spread)), 0, 255).astype(int).tolist()
    return red, green, blue


def contrasting(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """A light and a dark random colour, at least `CONTRAST` apart in brightness."""
    while True:
        pair = rng.integers(0, 256, (2, 3))
        if float(LUMINANCE @ (pair[0] - pair[1])) >= CONTRAST:
            return tuple(pair[0].tolist()), tuple(pair[1].tolist())


def blobs(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise in [0, 1], float32 (64, 64), that changes about `cells` times along a side."""
    coarse = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return np.clip(np.asarray(coarse.resize((LARGE, LARGE), Image.Resampling.BICUBIC)), 0.0, 1.0)


def blend(first: Colour | np.ndarray, second: Colour | np.ndarray, share: np.ndarray) -> Image.Image:
    """A picture that is `first` where `share` (h, w) is 0 and `second` where it is 1."""
    share = share[..., None]
    return Image.fromarray(np.rint(np.asarray(first) * (1 - share) + np.asarray(second) * share).astype(np.uint8))


def turned(drawing: Image.Image, degrees: float) -> Image.Image:
    """The centre of a picture twice as wide as needed, turned, so that no corner is empty."""
    side = drawing.width // 2
    start = (drawing.width - side) // 2
    return drawing.rotate(degrees, Image.Resampling.BILINEAR).crop((start, start, start + side, start + side))


@cache
def font(pixels: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans Bold of the given height; it ships with matplotlib, so that every machine has the same one."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf", pixels)
