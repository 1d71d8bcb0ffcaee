"""Digits: scikit-learn's 1,797 real handwritten digits, 8 x 8, turned, shifted, coloured and enlarged to 16 x 16.

Handwritings are dealt out to the splits first. Validation and test show each of theirs once, so that test images are
independent of each other and confidence intervals mean what they say; training shows each several times, differently each time.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from pmqbench.tasks.mini.canvas import COUNTS, SIZE, blend, contrasting, photograph

HANDWRITINGS = {"train": slice(0, 897), "validation": slice(897, 1247), "test": slice(1247, 1797)}
"""Which of the shuffled handwritings belong to a split."""
DEAL_SEED = 0
"""Shuffles the handwritings; not the suite's seed, so that no seed trains on what another tests."""


def generate(split: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (n, 3, 16, 16), and labels, int64 (n,), of one split; the label is the digit."""
    ink, labels = handwritings(split)
    count = COUNTS["train"] if split == "train" else len(labels)
    rounds = -(-count // len(labels))
    chosen = np.concatenate([rng.permutation(len(labels)) for _ in range(rounds)])[:count]
    return np.stack([photograph(draw(ink[index], rng), rng) for index in chosen]), labels[chosen]


def handwritings(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The split's share of scikit-learn's digits: ink, float32 (n, 8, 8) in [0, 1], and labels, int64 (n,)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    dealt = np.random.default_rng(DEAL_SEED).permutation(len(digits.target))[HANDWRITINGS[split]]
    return (digits.images[dealt] / 16.0).astype(np.float32), digits.target[dealt].astype(np.int64)


def draw(ink: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """One handwriting (8, 8) in random colours, size, place and slant, on a 16 x 16 picture."""
    angle, scale, slant = rng.uniform(-0.2, 0.2), rng.uniform(0.5, 0.6), rng.uniform(-0.1, 0.1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.array([[1.0, slant], [0.0, 1.0]])
    centre = SIZE / 2 + rng.uniform(-1.0, 1.0, 2)
    offset = np.array([4.0, 4.0]) - matrix @ centre
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    page = Image.fromarray(ink).transform((SIZE, SIZE), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    paper, pencil = contrasting(rng)
    return blend(paper, pencil, np.clip(np.asarray(page), 0.0, 1.0))
