"""TSV-M: cases worked out by hand, and an independent float64 computation from the formula."""

import numpy as np
import pytest

from pmqbench.merging.tsv_m import TsvM
from tests.merging.matrices import LINEAR, MATRICES, task_vectors


def reference(deltas: list[np.ndarray]) -> np.ndarray:
    """Sum over tasks of sigma p q^T, with p and q from the symmetric orthogonalisation X (X^T X)^(-1/2) of the vectors."""
    left, values, right = [], [], []
    for delta in deltas:
        u, s, v = np.linalg.svd(delta)
        for i in range(min(delta.shape) // len(deltas)):
            left, values, right = [*left, u[:, i]], [*values, s[i]], [*right, v[i]]
    p, q = orthogonalised(np.stack(left, axis=1)), orthogonalised(np.stack(right, axis=1))
    return sum(s * np.outer(p[:, i], q[:, i]) for i, s in enumerate(values))


def orthogonalised(columns: np.ndarray) -> np.ndarray:
    squares, vectors = np.linalg.eigh(columns.T @ columns)
    return columns @ vectors @ np.diag(squares**-0.5) @ vectors.T


@pytest.mark.parametrize("experts", [1, 2, 3])
@pytest.mark.parametrize("scaling", [1.0, 0.7, "each"])
def test_agrees_with_the_formula(experts: int, scaling, merge_arrays, random_matrices) -> None:
    base, tuned = random_matrices(experts)
    factors = [0.4 * (e + 1) for e in range(experts)] if scaling == "each" else [scaling] * experts
    merged = merge_arrays(TsvM(scaling=factors if scaling == "each" else scaling), base, tuned)
    for name in MATRICES:
        deltas = [factor * delta for factor, delta in zip(factors, task_vectors(base, tuned, name), strict=True)]
        change = reference(deltas) if name in LINEAR else np.mean(deltas, axis=0)
        np.testing.assert_allclose(merged[name], base[name] + change, rtol=0, atol=1e-12)


def test_two_tasks_at_45_degrees(merge_arrays) -> None:
    """3 e e^T and 2 u u^T, u halfway between e and f: the nearest orthonormal pair lies 22.5 degrees outside of theirs."""
    u = np.array([1, 1]) / np.sqrt(2)
    base = {"w": np.zeros((2, 2))}
    experts = [{"w": np.diag([3.0, 0.0])}, {"w": 2 * np.outer(u, u)}]
    angle = np.pi / 8
    p, q = np.array([np.cos(angle), -np.sin(angle)]), np.array([np.sin(angle), np.cos(angle)])
    merged = merge_arrays(TsvM(), base, experts, ["w"])
    np.testing.assert_allclose(merged["w"], 3 * np.outer(p, p) + 2 * np.outer(q, q), atol=1e-6)  # u is rounded to float32


def test_keeps_each_tasks_share_of_the_rank(merge_arrays) -> None:
    base = {"w": np.ones((4, 5)), "b": np.ones(3)}
    first, second = np.zeros((4, 5)), np.zeros((4, 5))
    first[[0, 1, 2], [0, 1, 2]] = 5, 4, 1  # the 1 is one too many
    second[[2, 3], [3, 4]] = 2, -3
    experts = [{"w": 1 + first, "b": np.array([1.0, 3, 1])}, {"w": 1 + second, "b": np.array([1.0, 1, 5])}]
    merged = merge_arrays(TsvM(), base, experts, ["w"])
    first[2, 2] = 0
    np.testing.assert_allclose(merged["w"], 1 + first + second, atol=1e-12)
    np.testing.assert_allclose(merged["b"], [1, 2, 3])


def test_a_common_direction_counts_once(merge_arrays, random_matrices) -> None:
    base, (expert,) = random_matrices(1)
    merged = merge_arrays(TsvM(), base, [expert, expert])
    for name in LINEAR:
        (delta,) = task_vectors(base, [expert], name)
        u, s, v = np.linalg.svd(delta, full_matrices=False)
        k = min(delta.shape) // 2
        np.testing.assert_allclose(merged[name] - base[name], (u[:, :k] * s[:k]) @ v[:k], atol=1e-12)


@pytest.mark.parametrize("experts", [2, 7])  # 7 are more than the rank
def test_experts_equal_to_the_base_change_nothing(experts: int, merge_arrays, random_matrices) -> None:
    base, _ = random_matrices(1)
    merged = merge_arrays(TsvM(), base, [base] * experts)
    assert all(np.array_equal(merged[name], base[name]) for name in base)


def test_more_experts_than_ranks_and_one_of_them_the_base(merge_arrays, random_matrices) -> None:
    base, tuned = random_matrices(14)
    merged = merge_arrays(TsvM(), base, [base, *tuned])
    for name in LINEAR:
        strengths = np.linalg.svd(merged[name] - base[name], compute_uv=False)
        largest = [np.linalg.norm(delta, 2) for delta in task_vectors(base, tuned, name)]
        assert 0 < strengths.max() <= max(largest) * (1 + 1e-9)
