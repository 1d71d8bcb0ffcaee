"""The factor of the damped second moment, and what happens where there is none."""

from __future__ import annotations

import pytest
import torch

from pmqbench.errors import NumericalError
from pmqbench.quantization.metric import factorise


def second_moment(tokens: int, width: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed)) * torch.linspace(0.2, 3, width)
    return x.T @ x / tokens


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("width", [1, 2, 33])
def test_factor_is_that_of_the_damped_inverse(act_order, width):
    second = second_moment(200, width)
    before = second.clone()
    metric = factorise(second, 0.1, where="layer", act_order=act_order)
    assert torch.equal(second, before)
    mu = float(second.double().diagonal().mean())
    damped = second.double() + 0.1 * mu * torch.eye(width, dtype=torch.float64)
    if act_order:
        assert metric.order.tolist() == sorted(range(width), key=lambda i: -float(second[i, i]))
        damped = damped[metric.order][:, metric.order]
    assert torch.allclose(metric.upper.T @ metric.upper, torch.linalg.inv(damped), atol=1e-6)
    assert torch.equal(metric.upper, metric.upper.triu())
    assert (metric.raised, metric.remedy) == (0, None)


@pytest.mark.parametrize("act_order", [False, True])
def test_solve_is_the_product_with_the_damped_inverse(act_order):
    second = second_moment(100, 10)
    metric = factorise(second, 0.05, where="layer", act_order=act_order)
    right = torch.randn(4, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    damped = second.double() + 0.05 * metric.mu * torch.eye(10, dtype=torch.float64)
    assert torch.allclose(metric.solve(right), right @ torch.linalg.inv(damped), atol=1e-9)


def test_condition_estimate_is_near_the_condition_number():
    second = second_moment(500, 40)
    metric = factorise(second, 0.01, where="layer")
    eigenvalues = torch.linalg.eigvalsh(second.double()) + 0.01 * metric.mu
    true = float(eigenvalues[-1] / eigenvalues[0])
    assert 0.5 * true < metric.condition <= 1.001 * true


def test_rank_deficient_matrix_is_damped_and_says_so():
    second = second_moment(5, 20)
    metric = factorise(second, 0.0, where="layer", tokens=5)
    assert 1e-6 <= metric.raised <= 1e-3
    assert "5 tokens for 20 inputs" in metric.remedy
    assert bool(metric.upper.isfinite().all())
    blind = factorise(second, 0.0, where="layer")
    assert blind.raised > 0
    assert "factorisation failed" in blind.remedy
    assert factorise(second, 0.01, where="layer", tokens=5).remedy is None


def test_slightly_indefinite_matrix_raises_damping_tenfold():
    second = torch.diag(torch.tensor([1.0, 1.0, 1.0, -0.03]))
    metric = factorise(second, 0.01, where="layer")
    assert metric.damping == 0.01
    assert metric.raised == pytest.approx(0.09)
    assert "raised to 0.1" in metric.remedy


def test_hopeless_matrices_are_errors_that_name_the_layer():
    with pytest.raises(NumericalError, match=r"block\.fc1.*cannot be factorised"):
        factorise(torch.tensor([[1.0, 5.0], [5.0, 1.0]]), 0.01, where="block.fc1")
    with pytest.raises(NumericalError, match=r"block\.fc1"):
        factorise(torch.full((2, 2), torch.nan), 0.01, where="block.fc1")


def test_dead_inputs_stay_apart():
    second = second_moment(100, 6)
    second[2] = second[:, 2] = 0
    live = [0, 1, 3, 4, 5]
    metric = factorise(second, 0.0, where="layer", tokens=100)
    assert metric.remedy is None
    inverse = metric.upper.T @ metric.upper
    assert torch.allclose(inverse[live][:, live], torch.linalg.inv(second.double()[live][:, live]), atol=1e-6)
    assert inverse[2].tolist() == [0, 0, 1, 0, 0, 0]
    zero = factorise(torch.zeros(3, 3), 0.01, where="layer")
    assert torch.equal(zero.upper, torch.eye(3, dtype=torch.float64))
