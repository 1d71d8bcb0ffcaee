"""Model Stock against the mean of all pairs' cosines."""

from itertools import combinations

import numpy as np
import pytest
import torch

from pmqbench.merging.model_stock import ModelStock


def test_two_experts_at_sixty_degrees(merged_vectors) -> None:
    """cos 60 = 1/2, so two thirds of the mean."""
    root = 3**0.5
    assert merged_vectors(ModelStock(), [2.0, 0.0], [1.0, root]) == pytest.approx([1.0, root / 3])


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        (([2.0, 0.0], [0.0, 3.0]), [0.0, 0.0]),  # at right angles: the base
        (([2.0, 1.0], [2.0, 1.0], [2.0, 1.0]), [2.0, 1.0]),  # of one mind: the experts
        (([2.0, 1.0],), [2.0, 1.0]),  # one expert
        (([2.0, 1.0], [-2.0, -1.0]), [0.0, 0.0]),  # (n - 1) c + 1 = 0
        (([2.0, 1.0], [-3.0, 0.0]), [0.0, 0.0]),  # a negative cosine
        (([2.0, 1.0], [0.0, 0.0]), [0.0, 0.0]),  # one that did not change
    ],
)
def test_known_angles(deltas, expected, merged_vectors) -> None:
    assert merged_vectors(ModelStock(), *deltas) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_agreement(n: int, agrees, random_models) -> None:
    ratios = []

    def expected(name: str, base: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        flat = deltas.reshape(n, -1)
        cosine = max(0, np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(flat, 2)]))
        ratios.append(n * cosine / (1 + (n - 1) * cosine))
        return base + ratios[-1] * deltas.mean(0)

    base, experts = random_models(n)
    common = {name: 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(9)) for name, value in base.items()}
    agrees(ModelStock(), base, [{name: value + common[name] for name, value in expert.items()} for expert in experts], expected)
    assert any(0.1 < ratio < 0.9 for ratio in ratios)
