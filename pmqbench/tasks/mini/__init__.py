"""Images of the mini suite: drawn here from a seed, so that the suite needs no download. Called by the `mini` data source.

Four domains that look different: real handwritten digits (scikit-learn), textures, traffic signs and land use seen from above.
Every image gets random colours, position, blur and noise (`canvas.py`). One file per domain holds its drawings; the class names
in `tasks/definitions/<task>.json` stand in the same order as the drawings.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.tasks.mini import digits, landuse, signs, textures
from pmqbench.tasks.mini.canvas import COUNTS

Generator = Callable[[str, np.random.Generator], tuple[np.ndarray, np.ndarray]]

GENERATORS: dict[str, Generator] = {
    "digits": digits.generate,
    "textures": textures.generate,
    "signs": signs.generate,
    "landuse": landuse.generate,
}
SPLITS = tuple(COUNTS)


def generate(task: str, split: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one split of a task; the same arguments give the same bytes in every process.

    Args:
        task: a key of `GENERATORS`.
        split: "train", "validation" or "test"; no image, and for digits no underlying handwriting, is in two of them.
        seed: of everything random but the deal of handwritings to splits, which is always the same.

    Returns:
        Images, uint8 (n, 3, 16, 16), RGB, and labels, int64 (n,), in random order.

    Raises:
        ConfigError: unknown task or split.
    """
    for kind, name, known in (("task", task, GENERATORS), ("split", split, SPLITS)):
        if name not in known:
            raise ConfigError(f'the mini suite has no {kind} "{name}".', remedy=did_you_mean(name, known))
    rng = np.random.default_rng([seed, zlib.crc32(task.encode()), SPLITS.index(split)])
    return GENERATORS[task](split, rng)
