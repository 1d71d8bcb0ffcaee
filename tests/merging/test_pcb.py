"""PCB-Merging against the published steps on flattened, stacked, sorted task vectors."""

import numpy as np
import pytest
import torch

from pmqbench.merging.pcb import Pcb


def test_one_expert_keeps_what_weighs(merged_vectors) -> None:
    """Weights order as the magnitudes do; those up to the quantile are 0, and a mean of one expert is that expert."""
    deltas = [1.0, -2.0, 3.0, 4.0]
    assert merged_vectors(Pcb(scaling=1.0, clip=0.0, ratio=0.5), deltas) == [0.0, 0.0, 0.0, 4.0]
    assert merged_vectors(Pcb(scaling=1.0, clip=0.0, ratio=0.75), deltas) == [0.0, 0.0, 3.0, 4.0]
    assert merged_vectors(Pcb(scaling=0.5, clip=0.0, ratio=1.0), deltas) == [0.0, -1.0, 1.5, 2.0]


def test_of_two_at_odds_the_larger_wins(merged_vectors) -> None:
    """The smaller one's balance is negative and thus its least: it weighs nothing."""
    merged = merged_vectors(Pcb(scaling=1.0, clip=0.0, ratio=0.5), [4.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 2.0])
    assert merged == [4.0, 0.0, 0.0, 2.0]


def test_clipping_takes_the_published_entries(merged_vectors) -> None:
    """Of ten, 0.2 clips at the sorted entries 2 and int(10 * 0.8 - 1) = 7."""
    merged = merged_vectors(Pcb(scaling=1.0, clip=0.2, ratio=0.99), [float(value) for value in range(1, 11)])
    assert merged[-4:] == [7.0, 8.0, 8.0, 8.0]


def minmax(values: np.ndarray) -> np.ndarray:
    low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
    return (values - low) / (high - low)


def clamped(values: np.ndarray, low: float, high: float) -> np.ndarray:
    ordered, d = np.sort(values, 1), values.shape[1]
    return np.clip(values, ordered[:, [int(d * low)]], ordered[:, [int(d * (1 - high) - 1)]])


def published(deltas: np.ndarray, ratio: float, clip: float, scaling: list[float]) -> np.ndarray:
    """The merged task vector (d,) of task vectors (n, d)."""
    magnitudes = clamped(np.abs(deltas), clip, clip)
    intra = np.exp(len(deltas) * minmax(magnitudes) ** 2)
    inter = np.tanh(deltas * deltas.sum(0))
    weights = minmax(clamped(intra * inter, 1 - ratio, 0))
    factors = np.array(scaling)[:, None]
    return (factors * np.sign(deltas) * magnitudes * weights).sum(0) / np.maximum(weights.sum(0), 1e-12)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize(("ratio", "clip"), [(0.05, 0.0001), (0.1, 0.01), (0.5, 0.1)])
def test_agreement(n: int, ratio: float, clip: float, agrees, random_models) -> None:
    base, experts = random_models(n)
    names = sorted(base)
    deltas = np.stack([np.concatenate([(e[k].double() - base[k].double()).numpy().ravel() for k in names]) for e in experts])
    scaling = [1.2 - 0.1 * e for e in range(n)]
    parts = np.split(published(deltas, ratio, clip, scaling), np.cumsum([base[name].numel() for name in names])[:-1])
    changes = dict(zip(names, parts, strict=True))

    def expected(name: str, origin: np.ndarray, _: np.ndarray) -> np.ndarray:
        return origin + changes[name].reshape(origin.shape)

    assert np.count_nonzero(changes["b.weight"]) > 10
    agrees(Pcb(scaling=scaling, ratio=ratio, clip=clip), base, experts, expected, atol=2e-6)


def test_many_experts_do_not_overflow(agrees) -> None:
    """exp(100) is no float32."""
    generator = torch.Generator().manual_seed(0)
    experts = [{"w": torch.randn(50, generator=generator)} for _ in range(100)]

    def expected(name: str, base: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        return published(deltas, 0.05, 0.0001, [1.2] * 100)

    agrees(Pcb(), {"w": torch.zeros(50)}, experts, expected, atol=1e-5)
