"""Iso-C and Iso-CTS: cases worked out by hand, and an independent float64 computation from the formulas."""

import numpy as np
import pytest

from pmqbench.merging.iso_c import IsoC
from pmqbench.merging.iso_cts import IsoCts
from tests.merging.matrices import LINEAR, MATRICES, task_vectors

METHODS = [IsoC(), IsoCts(), IsoCts(common_fraction=0.0)]


def nearest_isometry(matrix: np.ndarray) -> np.ndarray:
    """(M M^T)^(-1/2) M, or M (M^T M)^(-1/2), whichever inverse exists."""
    if matrix.shape[0] > matrix.shape[1]:
        return nearest_isometry(matrix.T).T
    squares, vectors = np.linalg.eigh(matrix @ matrix.T)
    return vectors @ np.diag(squares**-0.5) @ vectors.T @ matrix


def iso_c(deltas: list[np.ndarray]) -> np.ndarray:
    summed = sum(deltas)
    return np.linalg.norm(summed, "nuc") / min(summed.shape) * nearest_isometry(summed)


def iso_cts(deltas: list[np.ndarray], fraction: float) -> np.ndarray:
    summed, tasks = sum(deltas), len(deltas)
    rank = min(summed.shape)
    specific = round((rank - int(fraction * rank)) / tasks) * tasks
    u, s, v = np.linalg.svd(summed)
    common = rank - specific
    triples = []
    for delta in deltas:
        own_u, own_s, own_v = np.linalg.svd(delta - u[:, :common] @ u[:, :common].T @ delta)
        triples += [(own_u[:, i], own_s[i], own_v[i]) for i in range(specific // tasks)]
    triples += [(u[:, i], s[i], v[i]) for i in range(common)]
    left, values, right = zip(*triples, strict=True)
    return np.mean(values) * nearest_isometry(np.stack(left, axis=1)) @ nearest_isometry(np.stack(right))


@pytest.mark.parametrize("experts", [1, 2, 3])
@pytest.mark.parametrize("scaling", [1.0, 1.5, "each"])
@pytest.mark.parametrize("fraction", [None, 0.8, 0.5, 0.2, 1.0])
def test_agrees_with_the_formula(fraction: float | None, scaling, experts: int, merge_arrays, random_matrices) -> None:
    """`fraction` None is Iso-C."""
    base, tuned = random_matrices(experts)
    factors = [0.4 * (e + 1) for e in range(experts)] if scaling == "each" else [scaling] * experts
    options = {"scaling": factors if scaling == "each" else scaling}
    method = IsoC(**options) if fraction is None else IsoCts(common_fraction=fraction, **options)
    merged = merge_arrays(method, base, tuned)
    for name in MATRICES:
        deltas = [factor * delta for factor, delta in zip(factors, task_vectors(base, tuned, name), strict=True)]
        change = np.mean(deltas, axis=0)
        if name in LINEAR:
            change = iso_c(deltas) if fraction is None else iso_cts(deltas, fraction)
        np.testing.assert_allclose(merged[name], base[name] + change, rtol=0, atol=1e-11)


def test_iso_c_by_hand(merge_arrays) -> None:
    base = {"w": np.ones((2, 3)), "b": np.zeros(2)}
    experts = [
        {"w": 1 + np.array([[0, 3.0, 0], [0, 0, 0]]), "b": np.array([2.0, 0])},
        {"w": 1 + np.array([[0, 0, 0], [-1.0, 0, 0]]), "b": np.array([0, 4.0])},
    ]
    merged = merge_arrays(IsoC(scaling=1.5), base, experts, ["w"])
    np.testing.assert_allclose(merged["w"], 1 + 1.5 * np.array([[0, 2, 0], [-2, 0, 0]]), atol=1e-12)
    np.testing.assert_allclose(merged["b"], [1.5, 3])


def test_iso_cts_by_hand(merge_arrays) -> None:
    """Half of four directions are common, 5 and 4; each task adds what is largest of its rest, 1 and 2: the mean is 3."""
    base = {"w": np.zeros((4, 4))}
    experts = [{"w": np.diag([5.0, 0, 1, 0])}, {"w": np.diag([0, 4.0, 0, 2])}]
    merged = merge_arrays(IsoCts(common_fraction=0.5), base, experts, ["w"])
    np.testing.assert_allclose(merged["w"], 3 * np.eye(4), atol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_experts_equal_to_the_base_change_nothing(method, merge_arrays, random_matrices) -> None:
    base, _ = random_matrices(1)
    merged = merge_arrays(method, base, [base] * 3)
    assert all(np.array_equal(merged[name], base[name]) for name in base)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("experts", [1, 2, 9])  # 9 are more than the rank
def test_directions_that_no_expert_moves_stay(method, experts: int, merge_arrays) -> None:
    """Task vectors of rank two: zero singular values enter the mean, their vectors do not enter the merge."""
    random = np.random.default_rng(0)
    base = {"w": np.zeros((6, 8))}
    tuned = [{"w": np.zeros((6, 8))} for _ in range(experts)]
    for expert in tuned:
        expert["w"][:2, :3] = random.normal(size=(2, 3)).astype(np.float32)
    merged = merge_arrays(method, base, tuned, ["w"])["w"]
    assert np.abs(merged[2:]).max() < 1e-12
    assert np.abs(merged[:, 3:]).max() < 1e-12
    strengths = np.linalg.svd(merged, compute_uv=False)
    summed = np.linalg.svd(sum(expert["w"] for expert in tuned), compute_uv=False)
    if isinstance(method, IsoC):
        np.testing.assert_allclose(strengths[:2], summed.sum() / 6, atol=1e-12)
    assert strengths[0] > 0.1


def test_one_expert_has_no_directions_of_its_own(merge_arrays, random_matrices) -> None:
    base, tuned = random_matrices(1)
    common, specific = (merge_arrays(method, base, tuned) for method in (IsoC(), IsoCts(common_fraction=0.4)))
    for name in MATRICES:
        np.testing.assert_allclose(specific[name], common[name], rtol=0, atol=1e-12)
