"""GPTAQ: its column loop as published, in float64; two columns worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pmqbench.quantization.columns import BLOCK
from pmqbench.quantization.grid import Grid, fit_grid
from pmqbench.quantization.methods.gptaq import Gptaq, asymmetric
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.metric import factorise
from pmqbench.quantization.solvers import round_with_feedback
from tests.quantization.test_solvers import layer
from tests.quantization.toy import inputs64, layers, run


def as_published(weight: np.ndarray, shift: np.ndarray, damped: np.ndarray, grid: Grid, order: list[int]) -> np.ndarray:
    """Codes of W_{j:} -= (w_j - q_j) / U_jj U_{j,j:} - w_j P_{j,j:}, column by column; P = triu(shift U^T, 1) U."""
    weight, size = weight[:, order].copy(), weight.shape[1] // grid.scale.shape[1]
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    asymmetry = np.triu(shift[np.ix_(order, order)] @ upper.T, 1) @ upper
    codes = np.zeros(weight.shape, int)
    for j, column in enumerate(order):
        scale = grid.scale[:, column // size].double().numpy()
        zero = 0 if grid.zero is None else grid.zero[:, column // size].double().numpy()
        old = weight[:, j].copy()
        codes[:, column] = np.clip(np.round(old / scale) + zero, grid.low, grid.high)
        error = (old - scale * (codes[:, column] - zero)) / upper[j, j]
        weight[:, j:] -= np.outer(error, upper[j, j:]) - np.outer(old, asymmetry[j, j:])
    return codes


def test_two_columns_by_hand():
    """H = I: U = I, D U^T = D, so P_12 = alpha D_12 = 0.25 and w_2 becomes 0.3 + 0.25 * 1.2 = 0.6 -> 1; GPTQ's 0.3 -> 0."""
    metric = factorise(torch.eye(2), 0.0, where="layer")
    weight, shift = torch.tensor([[1.2, 0.3]]), torch.tensor([[9.0, 0.25], [9.0, 9.0]])
    target, feedback = asymmetric(weight, shift, metric)
    assert target.tolist() == [pytest.approx([1.2, 0.6])]
    assert feedback.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    grid = Grid(2, torch.ones(1, 1), torch.zeros(1, 1))
    assert round_with_feedback(target, feedback, None, grid).tolist() == [[1, 1]]


@pytest.mark.parametrize("width", [40, BLOCK + 44])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group_size", [None, 10])
def test_codes_are_those_of_the_published_loop(width, act_order, group_size):
    weight, second = layer(24, width)
    generator = torch.Generator().manual_seed(1)
    shift = second @ torch.randn(width, width, generator=generator) * 0.3 / width**0.5
    metric = factorise(second, 0.05, where="layer", act_order=act_order)
    grid = fit_grid(weight, 4, group_size)
    target, feedback = asymmetric(weight, shift, metric)
    damped = second.double().numpy() + 0.05 * metric.mu * np.eye(width)
    order = metric.order.tolist() if act_order else list(range(width))
    expected = as_published(weight.double().numpy(), shift.double().numpy(), damped, grid, order)
    found = round_with_feedback(target, feedback, metric.order, grid).numpy()
    symmetric = as_published(weight.double().numpy(), 0 * shift.double().numpy(), damped, grid, order)
    assert (found == expected).mean() > 0.99
    assert (symmetric == expected).mean() < 0.9


@pytest.mark.parametrize("act_order", [False, True])
def test_layers_of_a_model_against_float64(suite, act_order):
    """From the inputs in the quantized model and in the merged model."""
    method = Gptaq(bits=3, act_order=act_order)
    model, result = run(suite, method)
    for record in result.records:
        name = record["layer"]
        batches = [batch for own in suite.calibration.values() for batch in own]
        x, full = inputs64(model, name, batches).numpy(), inputs64(suite.merged, name, batches).numpy()
        second = x.T @ x / len(x)
        damped = second + 0.01 * np.diag(second).mean() * np.eye(len(second))
        order = np.argsort(-np.diag(second), kind="stable").tolist() if act_order else list(range(len(second)))
        weight = suite.merged.get_submodule(name).weight
        expected = as_published(weight.double().numpy(), 0.25 * (full - x).T @ x / len(x), damped, fit_grid(weight, 3), order)
        assert (result.codes[name].codes.numpy() == expected).mean() > 0.97


def test_where_nothing_is_quantized_before_it_is_gptq(suite):
    first = layers(suite.merged)[:2]
    gptaq, gptq = run(suite, Gptaq(bits=3))[1].codes, run(suite, Gptq(bits=3))[1].codes
    assert all(torch.equal(gptaq[name].codes, gptq[name].codes) for name in first)
    assert any(not torch.equal(gptaq[name].codes, gptq[name].codes) for name in gptq)


def test_it_makes_up_for_earlier_layers(suite):
    """Unrounded it is nearer to the outputs at full precision wherever layers before it are quantized."""
    records = {record["layer"]: record["objective"] for record in run(suite, Gptaq(bits=3, alpha=1.0))[1].records}
    assert records["body.1.up"]["target"] < 0.95 * records["body.1.up"]["merged"]
    assert records["body.0.up"]["target"] == pytest.approx(0, abs=1e-9)
