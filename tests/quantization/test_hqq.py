"""HQQ on whole zero points: a case worked out by hand, and the steps written as plain float64 loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from pmqbench.quantization.grid import Grid, fit_grid
from pmqbench.quantization.methods.hqq import Hqq, half_quadratic
from tests.quantization.toy import run


def plain(weight: np.ndarray, scale: float, zero: float, high: int) -> tuple[float, float]:
    """Scale and zero point of one group."""
    best, least, beta = (scale, zero), np.inf, 10.0
    for _ in range(20):
        codes = np.clip(np.round(weight / scale + zero), 0, high)
        error = weight - scale * (codes - zero)
        if np.abs(error).mean() < least:
            best, least = (scale, zero), np.abs(error).mean()
        with np.errstate(divide="ignore"):
            wanted = weight - np.sign(error) * np.maximum(np.abs(error) - np.abs(error) ** (0.7 - 1) / beta, 0)
        zero = np.clip(np.round(np.mean(codes - wanted / scale)), 0, high)
        square = ((codes - zero) ** 2).sum()
        if square and (wanted * (codes - zero)).sum() > 0:
            scale = (wanted * (codes - zero)).sum() / square
        beta *= 1.01
    return best


def losses(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Mean |error| of each group."""
    return (grid.decode(grid.encode(weight)) - weight).abs().view(*grid.scale.shape, -1).mean(-1)


def test_a_group_worked_out_by_hand():
    """2 bits, weights 0, four times 0.1, 0.36: scale 0.12, codes 0, 1, 1, 1, 1, 3, sum |error| 0.08; all errors are below
    beta^(-1 / 1.3), so e = 0 and the scale becomes (4 * 0.1 + 3 * 0.36) / (4 + 9), where sum |error| is 0.0738."""
    weight = torch.tensor([[0.0, 0.1, 0.1, 0.1, 0.1, 0.36]])
    start = fit_grid(weight, 2)
    assert float(start.scale) == pytest.approx(0.12)
    grid = half_quadratic(weight, start)
    assert float(grid.scale) == pytest.approx(1.48 / 13)
    assert float(grid.zero) == 0
    assert float((grid.decode(grid.encode(weight)) - weight).abs().sum()) == pytest.approx(0.96 / 13)


@pytest.mark.parametrize("size", [0.02, 3.0])  # of weights: the larger have errors that are shrunk
@pytest.mark.parametrize(("bits", "group_size"), [(4, None), (3, 16), (2, 8)])
def test_agreement_with_float64(bits, group_size, size):
    torch.manual_seed(bits)
    weight = size * (torch.randn(12, 48) ** 3 + 0.3)
    start = fit_grid(weight, bits, group_size)
    found = half_quadratic(weight, start)
    groups = weight.view(*start.scale.shape, -1).double().numpy()
    expected = np.array(
        [
            [plain(groups[i, g], float(start.scale[i, g]), float(start.zero[i, g]), start.high) for g in range(groups.shape[1])]
            for i in range(12)
        ]
    )
    # Means that are nearly the same, or a code near a tie, may lead a group elsewhere.
    same = (np.abs(found.scale.numpy() / expected[..., 0] - 1) < 1e-6) & (found.zero.numpy() == expected[..., 1])
    assert same.mean() > 0.9
    best = Grid(bits, torch.tensor(expected[..., 0], dtype=torch.float32), torch.tensor(expected[..., 1], dtype=torch.float32))
    assert float(losses(weight, found).sum() / losses(weight, best).sum()) == pytest.approx(1, abs=2e-3)
    assert (found.scale != start.scale).double().mean() > 0.5


@pytest.mark.parametrize("bits", [2, 4])
def test_no_group_loses_more_than_on_the_range_of_all_weights(bits):
    torch.manual_seed(0)
    weight = torch.randn(30, 64)
    start = fit_grid(weight, bits, 16)
    before, after = losses(weight, start), losses(weight, half_quadratic(weight, start))
    assert bool((after <= before * (1 + 1e-6)).all())
    assert float(after.sum()) < 0.99 * float(before.sum())


def test_a_group_of_zeros_stays_zero():
    weight = torch.tensor([[0.0, 0.0, 1.0, 2.0]])
    grid = half_quadratic(weight, fit_grid(weight, 4, 2))
    assert torch.equal(grid.decode(grid.encode(weight))[0, :2], weight[0, :2])
    assert bool(grid.scale.isfinite().all())


def test_in_the_loop_codes_give_the_weights_back(suite):
    model, result = run(suite, Hqq(bits=3, group_size=4), experts={})
    for name, codes in result.codes.items():
        assert torch.equal(codes.weight(), model.get_submodule(name).weight)


def test_symmetric_grids_are_refused():
    with pytest.raises(ValidationError):
        TypeAdapter(Hqq).validate_python({"symmetric": True})
