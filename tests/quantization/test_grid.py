"""Grids against their definitions, written out for one group at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pmqbench.errors import ConfigError
from pmqbench.quantization.base import check_group_size
from pmqbench.quantization.grid import MSE_SHRINKS, LayerCodes, fit_grid, mse_error


def by_definition(row: np.ndarray, bits: int, symmetric: bool, shrink: float = 1.0) -> tuple[np.ndarray, float, float]:
    """(dequantized, scale, zero) of one group."""
    low, high = shrink * min(row.min(), 0), shrink * max(row.max(), 0)
    if symmetric:
        scale, zero, first = 2 * max(-low, high) / (2**bits - 1), 0, -(2 ** (bits - 1))
    else:
        scale = (high - low) / (2**bits - 1)
        zero, first = np.round(-low / scale), 0
    codes = np.clip(np.round(row / scale) + zero, first, first + 2**bits - 1)
    return (codes - zero) * scale, scale, zero


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group_size", [None, 8])
def test_grid_is_its_definition(bits, symmetric, group_size):
    weight = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    weight[0] += 10  # all positive: the range must still hold 0
    grid = fit_grid(weight, bits, group_size, symmetric)
    weight *= 0.999  # off the ends of the range, which are ties of a symmetric grid
    coded = LayerCodes.of(grid, grid.encode(weight))
    size = group_size or 32
    for row in range(6):
        for group in range(32 // size):
            part = slice(group * size, (group + 1) * size)
            expected, scale, zero = by_definition(weight[row, part].double().numpy(), bits, symmetric, 1 / 0.999)
            assert coded.weight()[row, part].numpy() == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())
            assert float(coded.scale[row, group]) == pytest.approx(scale, rel=1e-6)
            assert symmetric or int(coded.zero[row, group]) == zero
    assert (coded.zero is None) == symmetric
    assert coded.codes.dtype == (torch.int8 if symmetric else torch.uint8)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    assert low <= int(coded.codes.min())
    assert int(coded.codes.max()) <= high


def test_zero_is_a_grid_point_of_one_sided_rows():
    weight = torch.tensor([[3.0, 4.0, 5.0, 0.0], [-3.0, -4.0, -5.0, 0.0]])
    grid = fit_grid(weight, 4)
    assert grid.decode(grid.encode(weight))[:, 3].tolist() == [0.0, 0.0]
    assert grid.zero.flatten().tolist() == [0.0, 15.0]


def test_symmetric_grid_clips_the_positive_end():
    grid = fit_grid(torch.tensor([[1.0, -0.5]]), 4, symmetric=True)
    rounded = grid.decode(grid.encode(torch.tensor([[1.0, -1.02]])))[0]
    assert float(rounded[0]) == pytest.approx(14 / 15)  # 0.933
    assert float(rounded[1]) == pytest.approx(-16 / 15)


@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_of_zeros_and_denormals_stay_finite_zeros(symmetric):
    weight = torch.zeros(2, 4)
    weight[1] = 1e-42
    grid = fit_grid(weight, 4, symmetric=symmetric)
    assert torch.equal(grid.decode(grid.encode(weight)), torch.zeros(2, 4))


@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_search_finds_the_best_of_all_ranges(symmetric):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(4, 64, generator=generator) ** 3
    grid = fit_grid(weight, 3, 32, symmetric, MSE_SHRINKS, mse_error)
    rounded = grid.decode(grid.encode(weight))
    gained = 0
    for row in range(4):
        for group in range(2):
            part = weight[row, group * 32 : (group + 1) * 32].double().numpy()
            errors = [(np.abs(by_definition(part, 3, symmetric, 1 - i / 100)[0] - part) ** 2.4).sum() for i in range(81)]
            got = (np.abs(rounded[row, group * 32 : (group + 1) * 32].double().numpy() - part) ** 2.4).sum()
            assert got == pytest.approx(min(errors), rel=1e-3)
            gained += min(errors) < 0.9 * errors[0]
    assert gained > 2


def test_encoding_a_grid_point_gives_it_back():
    grid = fit_grid(torch.randn(5, 16, generator=torch.Generator().manual_seed(2)), 4, 8)
    codes = torch.randint(0, 16, (5, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(grid.encode(grid.decode(codes)), codes)


def test_rows_of_stacked_codes_are_the_layers_codes():
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(4))
    stacked = LayerCodes.of(grid := fit_grid(weight, 4, 4), grid.encode(weight))
    alone = LayerCodes.of(grid := fit_grid(weight[2:5], 4, 4), grid.encode(weight[2:5]))
    cut = stacked.rows(2, 5)
    assert torch.equal(cut.codes, alone.codes)
    assert torch.equal(cut.weight(), alone.weight())


def test_group_size_error_names_the_layers():
    shapes = {"block.q": (64, 64), "block.fc2": (64, 100)}
    check_group_size(shapes, None, "here")
    check_group_size(shapes, 4, "here")
    with pytest.raises(ConfigError, match=r"quantizers\[0\].*32 does not divide.*block\.fc2 \(100 inputs\)"):
        check_group_size(shapes, 32, "quantizers[0]")
