"""MagMax against the entries of largest magnitude among all stacked task vectors."""

import numpy as np
import pytest

from pmqbench.merging.magmax import MagMax


def test_the_largest_magnitude_wins_and_of_equal_ones_the_last(merged_vectors) -> None:
    assert merged_vectors(MagMax(), [1.0, -3.0, 0.5, 0.0], [-2.0, 3.0, 0.25, 0.0]) == [-1.0, 1.5, 0.25, 0.0]
    assert merged_vectors(MagMax(scaling=1.0), [2.0], [-2.0], [1.0]) == [-2.0]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_agreement(n: int, agrees, random_models) -> None:
    def expected(name: str, base: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        return base + 0.7 * np.take_along_axis(deltas, np.abs(deltas).argmax(0)[None], 0)[0]

    agrees(MagMax(scaling=0.7), *random_models(n), expected)
