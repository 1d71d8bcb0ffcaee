"""Land use from above: twelve landscapes as a satellite might see them, at any compass bearing."""

from __future__ import annotations

import numpy as np
from PIL import Image
from PIL.ImageDraw import Draw

from pmqbench.tasks.mini.canvas import LARGE, Colour, Drawing, blend, blobs, draw_split, turned, vary

FOREST, MEADOW, SOIL, SAND, WATER = (40, 80, 40), (110, 140, 80), (150, 120, 80), (215, 190, 140), (40, 80, 120)
ASPHALT, ROOF, WHITE = (105, 105, 110), (165, 90, 70), (235, 235, 235)
SIDE = 2 * LARGE
"""Side of a landscape before it is turned, and its middle cut out, pixels."""
MIDDLE = SIDE / 2


def generate(split: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (n, 3, 16, 16), and labels, int64 (n,), of one split."""
    return draw_split({name: from_above(landscape) for name, landscape in LANDSCAPES.items()}, split, rng)


def from_above(landscape: Drawing) -> Drawing:
    """`landscape` seen at a random bearing."""
    return lambda rng: turned(landscape(rng), rng.uniform(0, 360))


def ground(rng: np.random.Generator, colour: Colour, cells: int = 10, relief: float = 20.0) -> Image.Image:
    """Land of one kind with light and dark patches, 128 x 128."""
    patches = blend(vary(colour, rng, relief), vary(colour, rng, relief), blobs(rng, cells))
    return patches.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def countryside(rng: np.random.Generator) -> Image.Image:
    """Ground that says nothing about the class."""
    return ground(rng, (FOREST, MEADOW, SOIL)[rng.integers(3)], cells=5)


def winding(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Points of a curve that crosses the picture from left to right."""
    x = np.linspace(0, SIDE, 24)
    bends = rng.uniform(8, 16) * np.sin(2 * np.pi * x / rng.uniform(50, 90) + rng.uniform(0, 2 * np.pi))
    return list(zip(x, MIDDLE + rng.uniform(-8, 8) + bends, strict=True))


def places(rng: np.random.Generator, step: float, jitter: float) -> list[tuple[float, float]]:
    """A lattice with the given step over the picture, every point moved at random by up to `jitter`."""
    start = rng.uniform(0, step, 2)
    lattice = np.stack(np.meshgrid(np.arange(start[0], SIDE, step), np.arange(start[1], SIDE, step)), -1).reshape(-1, 2)
    return [tuple(point) for point in lattice + rng.uniform(-jitter, jitter, lattice.shape)]


def box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a rectangle around (x, y)."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def forest(rng: np.random.Generator) -> Image.Image:
    picture = ground(rng, FOREST, cells=30, relief=30)
    for x, y in places(rng, 11, 5):
        Draw(picture).ellipse(box(x, y, *rng.uniform(7, 12, 2)), vary(FOREST, rng, 22))
    return picture


def river(rng: np.random.Generator) -> Image.Image:
    picture = countryside(rng)
    Draw(picture).line(winding(rng), vary(WATER, rng), width=rng.integers(9, 16), joint="curve")
    return picture


def lake(rng: np.random.Generator) -> Image.Image:
    picture = countryside(rng)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    shore = rng.uniform(14, 24) * rng.uniform(0.75, 1.2, 12)
    x, y = MIDDLE + rng.uniform(-8, 8, 2)
    Draw(picture).polygon(list(zip(x + shore * np.cos(angles), y + shore * np.sin(angles), strict=True)), vary(WATER, rng))
    return picture


def highway(rng: np.random.Generator) -> Image.Image:
    picture = countryside(rng)
    y, width = MIDDLE + rng.uniform(-10, 10), rng.uniform(13, 20)
    Draw(picture).rectangle(box(MIDDLE, y, SIDE, width), vary(ASPHALT, rng))
    Draw(picture).line([(0, y), (SIDE, y)], vary(WHITE, rng), width=3)
    return picture


def town(rng: np.random.Generator) -> Image.Image:
    picture = countryside(rng)
    for x, y in places(rng, rng.uniform(14, 18), 2):
        Draw(picture).rectangle(box(x, y, *rng.uniform(7, 11, 2)), vary(ROOF, rng, 35))
    return picture


def farmland(rng: np.random.Generator) -> Image.Image:
    picture = ground(rng, MEADOW)
    step = rng.uniform(24, 34)
    for x, y in places(rng, step, 0):
        crop = (MEADOW, SOIL, SAND, FOREST)[rng.integers(4)]
        Draw(picture).rectangle(box(x, y, step - 3, step - 3), vary(crop, rng))
    return picture


def desert(rng: np.random.Generator) -> Image.Image:
    picture = ground(rng, SAND, cells=4)
    for y in np.arange(rng.uniform(0, 16), SIDE, rng.uniform(13, 20)):
        dune = [(x, point + y - MIDDLE) for x, point in winding(rng)]
        Draw(picture).line(dune, vary(SOIL, rng, 15), width=4)
    return picture


def airport(rng: np.random.Generator) -> Image.Image:
    picture = ground(rng, MEADOW, cells=5)
    runway, (x, y) = vary(ASPHALT, rng), MIDDLE + rng.uniform(-8, 8, 2)
    Draw(picture).rectangle(box(MIDDLE, y, SIDE, 9), runway)
    crossing = rng.uniform(-30, 30)
    Draw(picture).line([(x - crossing, 0), (x + crossing, SIDE)], runway, width=9)
    return picture


def stadium(rng: np.random.Generator) -> Image.Image:
    picture = ground(rng, ASPHALT, cells=5)
    x, y = MIDDLE + rng.uniform(-6, 6, 2)
    width, height = rng.uniform(44, 56), rng.uniform(34, 42)
    Draw(picture).ellipse(box(x, y, width, height), vary(WHITE, rng, 15))
    Draw(picture).ellipse(box(x, y, width - 18, height - 18), vary(MEADOW, rng))
    return picture


def orchard(rng: np.random.Generator) -> Image.Image:
    picture = ground(rng, (MEADOW, SOIL)[rng.integers(2)], cells=5)
    tree = vary(FOREST, rng, 15)
    for x, y in places(rng, rng.uniform(14, 18), 1):
        Draw(picture).ellipse(box(x, y, 9, 9), tree)
    return picture


def harbor(rng: np.random.Generator) -> Image.Image:
    picture = ground(rng, WATER, cells=5)
    quay = MIDDLE + rng.uniform(4, 16)
    pier = vary(WHITE, rng)
    Draw(picture).rectangle((0, quay, SIDE, SIDE), vary(ASPHALT, rng))
    for x in np.arange(rng.uniform(0, 16), SIDE, rng.uniform(13, 17)):
        Draw(picture).rectangle((x, quay - 26, x + 4, quay), pier)
    return picture


def beach(rng: np.random.Generator) -> Image.Image:
    picture = ground(rng, WATER, cells=5)
    coast = winding(rng)
    Draw(picture).polygon([*coast, (SIDE, SIDE), (0, SIDE)], vary(SAND, rng))
    Draw(picture).line(coast, vary(WHITE, rng, 15), width=4)
    return picture


LANDSCAPES: dict[str, Drawing] = {
    "forest": forest,
    "river": river,
    "highway": highway,
    "town": town,
    "farmland": farmland,
    "lake": lake,
    "desert": desert,
    "beach": beach,
    "stadium": stadium,
    "orchard": orchard,
    "harbor": harbor,
    "airport": airport,
}
"""Class name -> what draws it."""
