"""Qronos: its steps as published, in float64; two columns worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from pmqbench.quantization.grid import Grid, fit_grid
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.qronos import Qronos, jump
from pmqbench.quantization.metric import factorise, largest_eigenvalue
from tests.quantization.test_solvers import by_definition
from tests.quantization.toy import inputs64, layers, run


def as_published(weight: np.ndarray, mixed: np.ndarray, second: np.ndarray, damping: float, grid: Grid, order: list[int]):
    """Codes: the first column, the jump of the others, then GPTQ of those in H + d I. mixed: G = E[x_f x^T]."""
    size, (first, *rest) = weight.shape[1] // grid.scale.shape[1], order
    scale = grid.scale[:, first // size].double().numpy()
    zero = grid.zero[:, first // size].double().numpy()
    start = (weight @ mixed[:, first] - weight[:, rest] @ second[rest, first]) / second[first, first]
    codes = np.zeros(weight.shape, int)
    codes[:, first] = np.clip(np.round(start / scale) + zero, grid.low, grid.high)
    point = scale * (codes[:, first] - zero)
    d = damping * np.linalg.eigvalsh(second)[-1] * np.eye(len(second))
    jumped = weight.copy()
    right = weight @ (mixed + d)[:, rest] - np.outer(point, second[first, rest])
    jumped[:, rest] = right @ np.linalg.inv((second + d)[np.ix_(rest, rest)])
    codes[:, rest] = by_definition(jumped, second + d, grid, rest)[:, rest]
    return codes


def inputs(suite, model, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a layer (tokens, in), in `model` and in the merged model."""
    batches = [batch for own in suite.calibration.values() for batch in own]
    return inputs64(model, name, batches).numpy(), inputs64(suite.merged, name, batches).numpy()


def test_two_columns_by_hand():
    """H = [[1, 1/2], [1/2, 1]], target (0.8, 0.4), the first column 1.6 by its own rule -> 2; the other then wants
    0.4 + (0.8 - 2) / 2 = -0.2. GPTQ takes the first to 1, and wants 0.3 of the other."""
    metric = factorise(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), 0.0, where="layer")
    grid = Grid(2, torch.ones(1, 1), torch.ones(1, 1))
    start = jump(torch.tensor([[0.8, 0.4]]), 0, torch.tensor([1.6]), metric, grid)
    assert start.tolist() == [pytest.approx([2.0, -0.2])]


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group_size", [None, 4])
def test_layers_of_a_model_against_float64(suite, act_order, group_size):
    """From the inputs in the quantized model and in the merged model."""
    model, result = run(suite, Qronos(bits=3, act_order=act_order, group_size=group_size, damping=1e-4))
    for record in result.records:
        name = record["layer"]
        x, full = inputs(suite, model, name)
        second = x.T @ x / len(x)
        order = np.argsort(-np.diag(second), kind="stable").tolist() if act_order else list(range(len(second)))
        weight = suite.merged.get_submodule(name).weight
        grid = fit_grid(weight, 3, group_size)
        expected = as_published(weight.double().numpy(), full.T @ x / len(x), second, 1e-4, grid, order)
        assert (result.codes[name].codes.numpy() == expected).mean() > 0.97
        assert record["damping"] * np.diag(second).mean() == pytest.approx(1e-4 * np.linalg.eigvalsh(second)[-1], rel=1e-2)


@dataclass(frozen=True, kw_only=True)
class Watched(Qronos):
    """Qronos that keeps its targets, by the names of their layers."""

    targets: dict[tuple[str, ...], Tensor] = field(default_factory=dict)

    def solve(self, problem):
        solution = super().solve(problem)
        self.targets[problem.names] = solution.target
        return solution


def test_the_target_is_the_minimiser(suite):
    """W (G + d I) (H + d I)^-1 for every layer, from the inputs it has in the quantized model."""
    method = Watched(bits=3, damping=1e-4)
    model, _ = run(suite, method)
    moved = []
    for names, target in method.targets.items():
        x, full = inputs(suite, model, names[0])
        second = x.T @ x / len(x)
        weight = np.concatenate([suite.merged.get_submodule(name).weight.double().numpy() for name in names])
        d = 1e-4 * np.linalg.eigvalsh(second)[-1] * np.eye(len(second))
        expected = weight @ (full.T @ x / len(x) + d) @ np.linalg.inv(second + d)
        assert np.abs(target.numpy() - expected).max() < 1e-4 * np.abs(expected).max()
        moved.append(np.abs(expected - weight).max())
    assert min(moved[1:]) > 0.01 > moved[0]


def test_where_nothing_is_quantized_before_it_is_gptq(suite):
    """With the same damping."""
    names = layers(suite.merged)[:2]
    qronos = run(suite, Qronos(bits=3, damping=1e-3))[1]
    share = next(record["damping"] for record in qronos.records if record["layer"] == names[0])
    gptq = run(suite, Gptq(bits=3, damping=share))[1]
    for name in names:
        assert float((qronos.codes[name].codes != gptq.codes[name].codes).double().mean()) < 0.01


def test_an_input_that_is_always_zero_comes_first(make_suite):
    suite = make_suite()
    for model in (suite.merged, *suite.models.values()):
        model.body[0].norm.weight[0] = model.body[0].norm.bias[0] = 0
    model, _ = run(suite, Qronos(bits=4))
    assert float(model.body[0].up.weight[:, 0].abs().max()) == 0
    assert all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())


def test_largest_eigenvalue():
    matrix = torch.diag(torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64)) + 0.5
    assert largest_eigenvalue(matrix, 30) == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-9)
