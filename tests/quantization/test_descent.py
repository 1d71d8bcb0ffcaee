"""Coordinate descent and refitted scales against plain float64 loops; J never rises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pmqbench.quantization.base import QUANTIZERS, SolverQuantizer
from pmqbench.quantization.columns import BLOCK
from pmqbench.quantization.descent import descend, descended, refitted
from pmqbench.quantization.grid import Grid, LayerCodes, fit_grid
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.metric import factorise
from pmqbench.quantization.solvers import gptq, method_grid, round_target
from tests.quantization.test_solvers import layer
from tests.quantization.toy import layers, reference, run

CASES = [(4, None, False), (2, None, False), (3, 8, False), (2, 8, True), (4, 20, True)]


def matrix(metric) -> np.ndarray:
    """H_a in float64."""
    damped = metric.second.double().numpy().copy()
    np.fill_diagonal(damped, metric.diagonal.numpy())
    return damped


def row_losses(stored: LayerCodes, target: torch.Tensor, metric) -> np.ndarray:
    """J of each row."""
    error = stored.weight().double().numpy() - target.double().numpy()
    return np.einsum("ij,jk,ik->i", error, matrix(metric), error)


def naive_pass(stored: LayerCodes, target: torch.Tensor, damped: np.ndarray) -> np.ndarray:
    """Codes after one pass, coordinate by coordinate as the method is defined."""
    grid, width = stored.grid(), stored.codes.shape[1]
    scale = np.repeat(grid.scale.double().numpy(), width // grid.scale.shape[1], axis=1)
    zero = 0.0 if grid.zero is None else np.repeat(grid.zero.double().numpy(), width // grid.scale.shape[1], axis=1)
    codes, zero = stored.codes.double().numpy(), np.broadcast_to(zero, scale.shape)
    weight, wanted = scale * (codes - zero), target.double().numpy()
    for j in range(width):
        best = weight[:, j] - (weight - wanted) @ damped[:, j] / damped[j, j]
        codes[:, j] = np.clip(np.round(best / scale[:, j]) + zero[:, j], grid.low, grid.high)
        weight[:, j] = scale[:, j] * (codes[:, j] - zero[:, j])
    return codes


def start(width: int = 40, bits: int = 4, group_size=None, symmetric=False, seed: int = 0, act_order: bool = False):
    weight, second = layer(24, width, seed)
    metric = factorise(second, 0.01, where="layer", act_order=act_order)
    grid = fit_grid(weight, bits, group_size, symmetric)
    return LayerCodes.of(grid, gptq(weight, metric, grid)), weight, metric


def test_two_weights_that_gptq_rounds_badly():
    """H = [[1, 1/2], [1/2, 1]], grid 0, 1, 2, 3, W* = (0.45, 0.225). GPTQ: q_1 = 0, then 0.225 + 0.45 / 2 = 0.45 -> (0, 0).

    The pass: q_1 wants 0.45 + 0.225 / 2 = 0.5625 -> 1, then q_2 wants 0.225 - 0.55 / 2 = -0.05 -> 0.
    J(0, 0) = 0.2025 + 0.050625 + 0.10125 = 0.354375; J(1, 0) = 0.3025 + 0.050625 - 0.12375 = 0.229375, the least;
    J(0, 1) = 0.2025 + 0.600625 - 0.34875 = 0.454375.
    """
    metric = factorise(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), 0.0, where="layer")
    target = torch.tensor([[0.45, 0.225]])
    grid = Grid(2, torch.ones(1, 1), torch.zeros(1, 1))
    first = LayerCodes.of(grid, gptq(target, metric, grid))
    found = descend(first, target, metric, passes=1, refit=False)
    assert (first.codes.tolist(), found.codes.tolist()) == ([[0, 0]], [[1, 0]])
    assert row_losses(first, target, metric) == pytest.approx(0.354375)
    assert row_losses(found, target, metric) == pytest.approx(0.229375)


@pytest.mark.parametrize("width", [40, BLOCK + 44])
@pytest.mark.parametrize(("bits", "group_size", "symmetric"), CASES)
def test_a_pass_is_its_definition(bits, group_size, symmetric, width):
    if group_size is not None and width % group_size:
        group_size = 10
    stored, target, metric = start(width, bits, group_size, symmetric)
    expected = naive_pass(stored, target, matrix(metric))
    found = descend(stored, target, metric, passes=1, refit=False)
    assert (expected != stored.codes.numpy()).mean() > 0.01
    assert (found.codes.numpy() == expected).mean() > 0.999
    assert torch.equal(found.scale, stored.scale)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize(("bits", "group_size", "symmetric"), CASES)
def test_no_row_ever_loses_more(bits, group_size, symmetric, act_order, seed):
    stored, target, metric = start(40, bits, group_size, symmetric, seed, act_order)
    before = row_losses(stored, target, metric)
    total = []
    for passes, refit in [(0, True), (1, False), (3, False), (1, True), (6, True)]:
        found = descend(stored, target, metric, passes, refit)
        after = row_losses(found, target, metric)
        assert (after <= before).all()
        assert bool((found.scale > 0).all())
        total.append(after.sum())
    assert total[0] < before.sum()
    assert total[2] <= total[1] < before.sum()
    assert total[4] <= total[3] < min(total[0], total[1])


@pytest.mark.parametrize(("bits", "group_size", "symmetric"), CASES)
def test_scales_are_those_of_least_squares(bits, group_size, symmetric):
    """H_a = R R^T: |(s C - W*) R|^2 by numpy's lstsq, a column of its matrix for every group."""
    stored, target, metric = start(40, bits, group_size, symmetric)
    found = descend(stored, target, metric, passes=0, refit=True)
    root = np.linalg.cholesky(matrix(metric))
    groups, size = stored.scale.shape[1], 40 // stored.scale.shape[1]
    zero = 0 if stored.zero is None else stored.zero.double().numpy()[..., None]
    centred = stored.codes.double().numpy().reshape(24, groups, size) - zero
    worst = 0.0
    for row in range(24):
        columns = [centred[row, g] @ root[g * size : (g + 1) * size] for g in range(groups)]
        expected = np.linalg.lstsq(np.stack(columns, 1), target[row].double().numpy() @ root, rcond=None)[0]
        assert (expected > 0).all()
        worst = max(worst, np.abs(found.scale[row].numpy() / expected - 1).max())
    assert worst < 1e-6
    assert torch.equal(found.codes, stored.codes)


@pytest.mark.parametrize(("bits", "group_size", "symmetric"), CASES)
def test_each_step_knows_by_how_much_it_lowers_the_objective(bits, group_size, symmetric):
    stored, target, metric = start(40, bits, group_size, symmetric)
    for step in (descended, refitted, descended, refitted):
        before = row_losses(stored, target, metric).sum()
        stored, gain = step(stored, target, metric)
        fell = before - row_losses(stored, target, metric).sum()
        assert gain == pytest.approx(fell, rel=1e-3, abs=1e-6 * before)
        assert fell > 0


def test_a_row_whose_scale_would_not_be_positive_keeps_it():
    """Codes of the wrong sign: the best scale is negative."""
    metric = factorise(torch.eye(2), 0.0, where="layer")
    grid = Grid(4, torch.ones(2, 1), None)
    stored = LayerCodes.of(grid, torch.tensor([[-1, -2], [1, 2]], dtype=torch.int8))
    found = descend(stored, torch.tensor([[0.5, 1.0], [0.5, 1.0]]), metric, passes=0, refit=True)
    assert found.scale.tolist() == [[1.0], [0.5]]


def test_a_group_of_zero_points_keeps_its_scale():
    metric = factorise(torch.eye(4), 0.0, where="layer")
    stored = LayerCodes(4, torch.tensor([[5, 5, 6, 7]], dtype=torch.uint8), torch.ones(1, 2), torch.full((1, 2), 5).byte())
    found = descend(stored, torch.tensor([[0.1, 0.2, 0.5, 1.0]]), metric, passes=0, refit=True)
    assert found.scale.tolist() == [[1.0, 0.5]]


def test_stacked_layers_get_what_they_get_alone():
    stored, target, metric = start()
    whole = descend(stored, target, metric, 1, refit=True)
    parts = [descend(stored.rows(i, i + 8), target[i : i + 8], metric, 1, refit=True) for i in (0, 8, 16)]
    assert (whole.codes != torch.cat([part.codes for part in parts])).double().mean() < 5e-4


def test_range_in_the_metric_is_the_best_of_its_shrinks():
    """Each group's sum_j H_jj e_j^2 is the least of all shrinks; and smaller than the plain search's."""
    weight, second = layer()
    metric = factorise(second * torch.linspace(0.1, 3, 40).outer(torch.linspace(0.1, 3, 40)), 0.01, where="layer")

    def cost(grid: Grid) -> torch.Tensor:
        error = (grid.decode(grid.encode(weight)) - weight).double()
        return (error.square() * metric.diagonal).view(24, -1, 8).sum(-1)

    found = cost(method_grid(Gptq(bits=2, group_size=8, range_search="metric"), weight, metric))
    for i in range(81):
        assert bool((found <= cost(fit_grid(weight, 2, 8, shrinks=(1 - i / 100,))) * (1 + 1e-5)).all())
    assert float(found.sum()) < 0.99 * float(cost(method_grid(Gptq(bits=2, group_size=8, range_search="mse"), weight)).sum())


def test_every_method_with_a_metric_has_the_options():
    solvers = [name for name in QUANTIZERS.names() if issubclass(QUANTIZERS.get(name), SolverQuantizer)]
    assert {"gptq", "qep", "epmq"} <= set(solvers)
    for name in solvers:
        assert {"descent_passes", "refit_scales"} <= QUANTIZERS.schema(name)["properties"].keys()


def test_solution_after_descent_gives_its_weight_back():
    weight, second = layer()
    metric = factorise(second, 0.01, where="layer")
    plain, better = (round_target(Gptq(bits=2, descent_passes=n, refit_scales=n > 0), weight, metric, "gptq") for n in (0, 3))
    assert torch.equal(better.codes.weight(), better.weight)
    assert torch.equal(better.nearest, plain.nearest)
    assert row_losses(better.codes, weight, metric).sum() < 0.9 * row_losses(plain.codes, weight, metric).sum()


@pytest.mark.parametrize("solver", ["gptq", "nearest"])
def test_the_first_layers_objective_falls(suite, solver):
    """In the loop, E-PMQ's recorded J of layers that see the same inputs either way; against J token by token."""
    finals = {}
    for passes in (0, 4):
        model, result = run(suite, Epmq(bits=2, anchor=0.05, solver=solver, descent_passes=passes, refit_scales=passes > 0))
        names = layers(model)[:2]
        finals[passes] = {r["layer"]: r["objective"]["final"] for r in result.records if r["layer"] in names}
        for name in names:
            weight = model.get_submodule(name).weight
            assert finals[passes][name] == pytest.approx(reference(suite, model, name, 0.05).objective(weight), rel=1e-3)
    assert all(finals[4][name] < finals[0][name] for name in finals[0])
