"""DARE: what is dropped, how the rest is scaled, what the draws depend on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pmqbench.merging.dare import Dare
from pmqbench.merging.engine import merge
from pmqbench.merging.ties import Ties
from tests.merging.conftest import SHAPES


@pytest.fixture
def masks(write):
    """(method, number of experts) -> which entries of each expert's tensors are kept, found from task vectors of ones."""

    def found(method: Dare, experts: int) -> list[dict[str, np.ndarray]]:
        base = write("zeros", {name: torch.zeros(shape) for name, shape in SHAPES.items()})
        ones = [write(f"ones{e}", {name: torch.ones(shape) for name, shape in SHAPES.items()}) for e in range(experts)]
        alone = [[float(e == other) for other in range(experts)] for e in range(experts)]
        merges = [merge(replace(method, scaling=scaling), base, ones) for scaling in alone]
        return [{name: value.numpy() != 0 for name, value in merged.items()} for merged in merges]

    return found


def test_an_entry_is_dropped_or_scaled_up(merged_vectors) -> None:
    """With 0.75 dropped, a quarter stays, four times as large: the mean of 100,000 ones is 1 within 5 standard errors."""
    values = np.array(merged_vectors(Dare(drop_rate=0.75, scaling=1.0), [1.0] * 100_000))
    assert set(np.unique(values)) == {0.0, 4.0}
    assert abs(values.mean() - 1) < 5 * np.sqrt(3 / len(values))


def test_nothing_dropped_is_plain_merging(merged_vectors) -> None:
    deltas = [3.0, -1.0, 0.5, 0.25, 2.0], [-2.0, -1.0, 0.5, 0.25, 2.0]
    assert merged_vectors(Dare(drop_rate=0.0, scaling=1.0), *deltas) == [1.0, -2.0, 1.0, 0.5, 4.0]
    ties = Dare(drop_rate=0.0, scaling=0.5, of="ties", density=0.2)
    assert merged_vectors(ties, *deltas) == merged_vectors(Ties(scaling=0.5, density=0.2), *deltas)


def test_draws_differ_by_expert_and_tensor_and_seed(masks) -> None:
    first, second = masks(Dare(), 2)
    (other, _) = masks(Dare(seed=1), 2)
    name = "b.weight"
    shares = [np.mean(a == b) for a, b in ((first[name], second[name]), (first[name], other[name]))]
    shares.append(np.mean(first["b.weight"].ravel()[:231] == first["a.weight"].ravel()))
    assert all(0.35 < share < 0.65 for share in shares)  # independent masks of a half agree on a half


def test_draws_do_not_depend_on_the_other_tensors(write, random_models) -> None:
    base, experts = random_models(2)
    whole = merge(Dare(), write("base", base), [write(f"e{i}", expert) for i, expert in enumerate(experts)])
    name = "a.weight"
    part = merge(Dare(), write("part", {name: base[name]}), [write(f"p{i}", {name: e[name]}) for i, e in enumerate(experts)])
    assert torch.equal(whole[name], part[name])


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_agreement(n: int, rate: float, agrees, masks, random_models) -> None:
    method = Dare(drop_rate=rate)
    kept = masks(method, n)

    def expected(name: str, base: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        return base + 0.3 * sum(delta * mask[name] / (1 - rate) for delta, mask in zip(deltas, kept, strict=True))

    agrees(method, *random_models(n), expected)


def test_ties_reads_the_same_draws_in_all_its_passes(write, masks, random_models) -> None:
    method = Dare(scaling=0.5, of="ties")
    base = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    experts = [
        {name: expert[name] - origin[name] for name in origin} for origin, tuned in [random_models(3)] for expert in tuned
    ]
    kept = masks(Dare(), 3)
    thinned = [
        {n: v * torch.from_numpy(np.asarray(k[n])) * 2 for n, v in e.items()} for e, k in zip(experts, kept, strict=True)
    ]
    origin = write("base", base)
    merged = merge(method, origin, [write(f"e{i}", expert) for i, expert in enumerate(experts)])
    expected = merge(Ties(scaling=0.5), origin, [write(f"t{i}", expert) for i, expert in enumerate(thinned)])
    assert all(torch.equal(merged[name], expected[name]) for name in base)
