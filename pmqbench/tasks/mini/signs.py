"""Traffic signs: twelve signs told apart by shape and emblem, in faded colours before a random background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.ImageDraw import Draw, ImageDraw

from pmqbench.tasks.mini.canvas import LARGE, Colour, Drawing, blend, blobs, draw_split, font, vary

RED, BLUE, YELLOW, WHITE, BLACK = (190, 30, 40), (30, 80, 180), (240, 190, 40), (235, 235, 230), (30, 30, 30)
UPRIGHT = -90.0
"""Angle of a polygon's first corner, degrees: at the top."""


def generate(split: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (n, 3, 16, 16), and labels, int64 (n,), of one split."""
    return draw_split({name: scene(name) for name in SIGNS}, split, rng)


def scene(name: str) -> Drawing:
    """The drawing function of one sign: street behind, sign before it, tilted."""

    def draw(rng: np.random.Generator) -> Image.Image:
        street = blend(vary((110, 120, 110), rng, 55), vary((130, 130, 140), rng, 55), blobs(rng, 4))
        sign = Image.new("RGBA", (LARGE, LARGE), (0, 0, 0, 0))
        SIGNS[name](Sign(Draw(sign), rng))
        sign = sign.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)
        street.paste(sign, mask=sign)
        return street

    return draw


class Sign:
    """One sign at a random place and size; lengths are in units of its radius, so that emblems scale with it."""

    def __init__(self, draw: ImageDraw, rng: np.random.Generator) -> None:
        self.draw, self.rng = draw, rng
        self.radius = rng.uniform(21, 29)
        self.centre = LARGE / 2 + rng.uniform(-6, 6, 2)
        self.fading = rng.uniform(-40, 40)

    def colour(self, colour: Colour) -> Colour:
        """A colour as this sign's age and light leave it."""
        return vary(tuple(int(channel + self.fading) for channel in colour), self.rng, 18)

    def points(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        """Pixel positions of points given from the sign's centre."""
        return [tuple(self.centre + self.radius * np.asarray(point)) for point in points]

    def disc(self, colour: Colour, size: float = 1.0) -> None:
        self.draw.ellipse(self.points((-size, -size), (size, size)), self.colour(colour))

    def plate(self, colour: Colour, corners: int, size: float = 1.0, first: float = UPRIGHT) -> None:
        """A regular polygon whose first corner lies at angle `first`, degrees."""
        angles = np.deg2rad(first + np.arange(corners) * 360 / corners)
        self.shape(colour, [(size * np.cos(angle), size * np.sin(angle)) for angle in angles])

    def shape(self, colour: Colour, points: Sequence[tuple[float, float]]) -> None:
        self.draw.polygon(self.points(*points), self.colour(colour))

    def bar(self, colour: Colour, start: tuple[float, float], end: tuple[float, float], width: float) -> None:
        self.draw.line(self.points(start, end), self.colour(colour), width=round(width * self.radius))

    def letter(self, colour: Colour, text: str, size: float) -> None:
        self.draw.text(tuple(self.centre), text, self.colour(colour), font(round(size * self.radius)), anchor="mm")


def stop(sign: Sign) -> None:
    sign.plate(RED, 8, first=22.5)
    for x in (-0.5, 0.0, 0.5):
        sign.bar(WHITE, (x, -0.25), (x, 0.25), 0.22)


def yield_way(sign: Sign) -> None:
    sign.plate(RED, 3, 1.15, first=90)
    sign.plate(WHITE, 3, 0.6, first=90)


def entry(sign: Sign) -> None:
    sign.disc(RED)
    sign.bar(WHITE, (-0.65, 0), (0.65, 0), 0.42)


def warning(sign: Sign) -> None:
    sign.plate(RED, 3, 1.2)
    sign.plate(WHITE, 3, 0.8)
    sign.bar(BLACK, (0, -0.4), (0, 0.35), 0.25)


def closed(sign: Sign) -> None:
    sign.disc(RED)
    sign.disc(WHITE, 0.65)


def priority(sign: Sign) -> None:
    sign.plate(WHITE, 4, 1.15)
    sign.plate(YELLOW, 4, 0.75)


def parking(sign: Sign) -> None:
    sign.plate(BLUE, 4, 1.25, first=45)
    sign.letter(WHITE, "P", 1.6)


def hospital(sign: Sign) -> None:
    sign.plate(BLUE, 4, 1.25, first=45)
    sign.letter(WHITE, "H", 1.6)


def limit(sign: Sign) -> None:
    sign.disc(RED)
    sign.disc(WHITE, 0.72)
    sign.letter(BLACK, "50", 0.9)


def arrow(sign: Sign, direction: tuple[float, float]) -> None:
    """A white arrow on a blue disc."""
    x, y = direction
    sign.disc(BLUE)
    sign.bar(WHITE, (-0.7 * x, -0.7 * y), (0.2 * x, 0.2 * y), 0.34)
    sign.shape(WHITE, [(0.8 * x, 0.8 * y), (0.5 * y, 0.5 * x), (-0.5 * y, -0.5 * x)])


def left(sign: Sign) -> None:
    arrow(sign, (-1.0, 0.0))


def right(sign: Sign) -> None:
    arrow(sign, (1.0, 0.0))


def ahead(sign: Sign) -> None:
    arrow(sign, (0.0, -1.0))


SIGNS = {
    "stop": stop,
    "yield": yield_way,
    "warning": warning,
    "entry": entry,
    "closed": closed,
    "limit": limit,
    "left": left,
    "right": right,
    "ahead": ahead,
    "parking": parking,
    "priority": priority,
    "hospital": hospital,
}
"""Class name -> what draws it."""
