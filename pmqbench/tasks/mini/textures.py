"""Textures: twelve patterns, computed from coordinates, in two random colours each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from pmqbench.tasks.mini.canvas import LARGE, blend, blobs, contrasting, draw_split

Pattern = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""x and y, float (64, 64), turned and in units of one period, to the share of the second colour (64, 64)."""


def generate(split: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (n, 3, 16, 16), and labels, int64 (n,), of one split."""
    return draw_split({name: painter(name) for name in PATTERNS}, split, rng)


def painter(name: str) -> Callable[[np.random.Generator], Image.Image]:
    """The drawing function of one pattern."""
    pattern, (shortest, longest), degrees = PATTERNS[name]

    def draw(rng: np.random.Generator) -> Image.Image:
        first, second = rng.permutation(contrasting(rng))
        x, y = coordinates(rng.uniform(shortest, longest), np.deg2rad(degrees + rng.uniform(-12, 12)), rng)
        share = pattern(x, y, rng)
        return shaded(blend(first, second, np.clip(share, 0.0, 1.0)), rng)

    return draw


def coordinates(period: float, angle: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turned coordinates, origin within a sixth of the picture's centre; `period` in pixels of the finished 16 x 16 image."""
    origin = LARGE / 2 + rng.uniform(-LARGE / 6, LARGE / 6, 2)
    y, x = (np.mgrid[0:LARGE, 0:LARGE] + 0.5 - origin[:, None, None]) / (4 * period)
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)


def shaded(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Uneven light: parts of the picture are up to 40 % darker."""
    light = 1.0 - rng.uniform(0.0, 0.4) * blobs(rng, 3)[..., None]
    return Image.fromarray(np.rint(np.asarray(picture) * light).astype(np.uint8))


def wave(x: np.ndarray) -> np.ndarray:
    """Period 1, values in [0, 1], steeper than a sine."""
    return np.clip(0.5 + np.sin(2 * np.pi * x), 0.0, 1.0)


def lines(x: np.ndarray, width: float) -> np.ndarray:
    """1 on lines of the given width at every whole number, 0 between."""
    return (np.abs(x - np.rint(x)) < width / 2).astype(np.float64)


def stripes(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return wave(y + rng.random())


def checkers(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ((np.floor(2 * x) + np.floor(2 * y)) % 2).astype(np.float64)


def dots(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (np.hypot(x - np.rint(x), y - np.rint(y)) < rng.uniform(0.26, 0.34)).astype(np.float64)


def rings(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return wave(np.hypot(x, y) + rng.random())


def chevrons(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return wave(y + 0.8 * np.abs(x - np.rint(x)) * 2)


def grid(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.maximum(lines(x, 0.25), lines(y, 0.25))


def bricks(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shift = 0.5 * (np.floor(y) % 2)
    return np.maximum(lines(x / 1.7 + shift, 0.15), lines(y, 0.25))


def rays(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return wave(rng.integers(4, 8) * np.arctan2(y, x) / (2 * np.pi) + rng.random())


def spiral(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return wave(np.hypot(x, y) + rng.choice([-1, 1]) * np.arctan2(y, x) / (2 * np.pi) + rng.random())


def marble(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return wave(1.5 * blobs(rng, 5) + 0.3 * x)


PATTERNS: dict[str, tuple[Pattern, tuple[float, float], float]] = {
    "stripes": (stripes, (3.5, 6.0), 0),
    "columns": (stripes, (3.5, 6.0), 90),
    "diagonal": (stripes, (3.5, 6.0), 45),
    "dots": (dots, (4.0, 6.0), 0),
    "grid": (grid, (4.0, 6.0), 0),
    "bricks": (bricks, (3.5, 5.0), 0),
    "rings": (rings, (4.0, 6.0), 0),
    "rays": (rays, (4.0, 6.0), 0),
    "spiral": (spiral, (4.5, 6.5), 0),
    "chevron": (chevrons, (5.0, 7.0), 0),
    "marble": (marble, (4.0, 6.0), 0),
    "checkers": (checkers, (6.0, 9.0), 0),
}
"""Class name -> pattern, range of its period in pixels of the finished image, usual angle in degrees."""
