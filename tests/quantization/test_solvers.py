"""The GPTQ solver against the definition: round one input, update all that follow by the inverse of what is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pmqbench.quantization.grid import Grid, fit_grid
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.metric import factorise
from pmqbench.quantization.solvers import gptq, round_target


def by_definition(weight: np.ndarray, damped: np.ndarray, grid: Grid, order: list[int]) -> np.ndarray:
    """Codes of optimal brain quantization in the given order: the inverse of the remaining inputs is taken anew each step."""
    weight, codes = weight.copy(), np.zeros(weight.shape, int)
    size = weight.shape[1] // grid.scale.shape[1]
    for position, j in enumerate(order):
        rest = order[position:]
        inverse = np.linalg.inv(damped[np.ix_(rest, rest)])
        scale = grid.scale[:, j // size].double().numpy()
        zero = 0 if grid.zero is None else grid.zero[:, j // size].double().numpy()
        codes[:, j] = np.clip(np.round(weight[:, j] / scale) + zero, grid.low, grid.high)
        error = (weight[:, j] - (codes[:, j] - zero) * scale) / inverse[0, 0]
        weight[:, rest] -= np.outer(error, inverse[0])
    return codes


def layer(out: int = 24, width: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(300, width, generator=generator) @ torch.randn(width, width, generator=generator)
    return torch.randn(out, width, generator=generator), x.T @ x / 300


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group_size", [None, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_codes_are_those_of_the_definition(act_order, group_size, symmetric):
    weight, second = layer()
    metric = factorise(second, 0.01, where="layer", act_order=act_order)
    grid = fit_grid(1.01 * weight, 4, group_size, symmetric)  # the ends of a symmetric range are ties
    order = metric.order.tolist() if act_order else list(range(40))
    damped = (second.double() + 0.01 * metric.mu * torch.eye(40, dtype=torch.float64)).numpy()
    expected = by_definition(weight.double().numpy(), damped, grid, order)
    assert (gptq(weight, metric, grid).numpy() == expected).mean() > 0.995


def test_blocks_of_columns_do_not_change_the_codes():
    weight, second = layer(16, 300)
    metric = factorise(second, 0.05, where="layer")
    grid = fit_grid(weight, 4)
    damped = (second.double() + 0.05 * metric.mu * torch.eye(300, dtype=torch.float64)).numpy()
    expected = by_definition(weight.double().numpy(), damped, grid, list(range(300)))
    assert (gptq(weight, metric, grid).numpy() == expected).mean() > 0.99


def test_error_is_far_below_nearest_and_codes_stay_near_it():
    weight, second = layer(32, 96)
    metric = factorise(second, 0.01, where="layer")
    grid = fit_grid(weight, 4)
    nearest, codes = grid.encode(weight), gptq(weight, metric, grid)
    steps = (codes.int() - nearest.int()).abs()
    assert int(steps.sum()) > 0

    def loss(c: torch.Tensor) -> float:
        error = (grid.decode(c) - weight).double()
        return float(torch.trace(error @ second.double() @ error.T))

    assert loss(codes) < 0.6 * loss(nearest)


def test_on_inputs_little_correlated_codes_stay_within_a_step_of_nearest():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(400, 64, generator=generator) + 0.5 * torch.randn(400, 1, generator=generator)
    weight = torch.randn(48, 64, generator=generator)
    grid = fit_grid(weight, 4)
    codes = gptq(weight, factorise(x.T @ x / 400, 0.01, where="layer"), grid)
    steps = (codes.int() - grid.encode(weight).int()).abs()
    assert float((steps <= 1).double().mean()) >= 0.95
    assert int(steps.sum()) > 0


def test_diagonal_metric_is_rounding_to_nearest():
    weight, _ = layer()
    grid = fit_grid(weight, 4)
    metric = factorise(torch.diag(torch.rand(40) + 0.5), 0.01, where="layer")
    assert torch.equal(gptq(weight, metric, grid), grid.encode(weight))


def test_stacked_layers_get_the_codes_they_get_alone():
    weight, second = layer(48, 64)
    metric = factorise(second, 0.01, where="layer")
    whole = gptq(weight, metric, fit_grid(weight, 4))
    parts = torch.cat([gptq(part, metric, fit_grid(part, 4)) for part in weight.split(16)])
    assert float((whole != parts).double().mean()) < 5e-4


def test_round_target_at_sixteen_bits_returns_the_target():
    weight, second = layer()
    metric = factorise(second, 0.01, where="layer")
    solution = round_target(Gptq(bits=16), weight, metric, "gptq")
    assert solution.codes is None
    assert torch.equal(solution.weight, weight)


@pytest.mark.parametrize("solver", ["gptq", "nearest"])
@pytest.mark.parametrize("range_search", ["minmax", "mse"])
def test_codes_give_the_weight_back_bit_for_bit(solver, range_search):
    weight, second = layer()
    solution = round_target(Gptq(bits=3, range_search=range_search), weight, factorise(second, 0.01, where="layer"), solver)
    assert torch.equal(solution.codes.weight(), solution.weight)
    assert not torch.equal(solution.weight, weight)
    assert torch.equal(solution.weight, solution.nearest) == (solver == "nearest")
