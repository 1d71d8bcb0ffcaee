"""WUDI against least squares on the stacked loss, and a float64 Adam on the published one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pmqbench.merging.wudi import Wudi

LINEAR = ["b.weight"]


def test_one_by_one_matrices(merged_vectors) -> None:
    """A_e = 1, S = 2, P = a + b: (4 + 0.2 * 4) / 2.2, without eps the mean."""
    assert merged_vectors(Wudi(), [[1.0]], [[3.0]], linear=["w"]) == [[pytest.approx(4.8 / 2.2)]]
    assert merged_vectors(Wudi(eps=0), [[1.0]], [[3.0]], linear=["w"]) == [[pytest.approx(2.0)]]


@pytest.mark.parametrize("method", [Wudi(), Wudi(eps=0), Wudi(solver="adam")], ids=str)
def test_task_vectors_of_different_rows_spaces_do_not_interfere(method: Wudi, merged_vectors) -> None:
    """Their sum has no loss; the third column no expert uses."""
    first, second = [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [[0.0, 5.0, 0.0], [0.0, 3.0, 0.0]]
    merged = merged_vectors(method, first, second, linear=["w"])
    assert np.allclose(merged, [[1.0, 5.0, 0.0], [2.0, 3.0, 0.0]], atol=1e-6)


def test_the_first_step_of_adam_is_its_learning_rate(merged_vectors) -> None:
    """From the sum 4 towards the minimum 2."""
    adam = Wudi(solver="adam", steps=1, learning_rate=0.5)
    assert merged_vectors(adam, [[1.0]], [[3.0]], linear=["w"]) == [[pytest.approx(3.5)]]
    assert merged_vectors(replace(adam, steps=500, learning_rate=0.05), [[1.0]], [[3.0]], linear=["w"])[0] == pytest.approx(
        [2.0]
    )


def least_squares(deltas: np.ndarray, eps: float) -> np.ndarray:
    """argmin of sum_e ||(M - tau_e) tau_e^T||^2 / ||tau_e||^2 + eps' ||M - M_0||^2 over M, the nearest one to M_0."""
    start = deltas.sum(0)
    norms = [np.linalg.norm(delta) for delta in deltas]
    pull = eps * len(deltas) / start.shape[1]  # every A_e has trace 1
    left = np.vstack(
        [*(delta / norm for delta, norm in zip(deltas, norms, strict=True)), np.sqrt(pull) * np.eye(start.shape[1])]
    )
    right = [(delta - start) @ delta.T / norm for delta, norm in zip(deltas, norms, strict=True)]
    right = np.hstack([*right, np.zeros_like(start)])
    return start + np.linalg.lstsq(left, right.T, rcond=1e-6)[0].T


def adam(deltas: np.ndarray, steps: int, rate: float) -> np.ndarray:
    matrix = deltas.sum(0)
    mean, square = np.zeros_like(matrix), np.zeros_like(matrix)
    for step in range(1, steps + 1):
        gradient = sum(2 * (matrix - delta) @ delta.T @ delta / np.sum(delta**2) for delta in deltas)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        matrix = matrix - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return matrix


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("eps", [0.1, 0, 0.001, 10])
def test_agreement(n: int, eps: float, agrees, random_models) -> None:
    def expected(name: str, base: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        return base + (least_squares(deltas, eps) if name in LINEAR else deltas.mean(0))

    agrees(Wudi(eps=eps), *random_models(n), expected, LINEAR)


@pytest.mark.parametrize("n", [2, 5])
def test_agreement_of_adam(n: int, agrees, random_models) -> None:
    def expected(name: str, base: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        return base + (adam(deltas, 40, 1e-3) if name in LINEAR else deltas.mean(0))

    agrees(Wudi(solver="adam", steps=40, learning_rate=1e-3), *random_models(n), expected, LINEAR, atol=1e-5)


def test_of_matrices_of_low_rank_the_minimum_nearest_to_the_sum(agrees, random_models) -> None:
    """Without eps, S is singular: two experts of rank one in 30 dimensions."""
    _, experts = random_models(2)
    tensors = [{"b.weight": expert["b.weight"][:, :1] * expert["b.weight"][:1]} for expert in experts]
    base = {"b.weight": torch.zeros(40, 30)}  # nothing that a task vector would be rounded to
    agrees(Wudi(eps=0), base, tensors, lambda name, origin, deltas: least_squares(deltas, 0), LINEAR, atol=1e-5)
