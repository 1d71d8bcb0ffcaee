"""Codes on disk come back whole; sizes are those of the export format, counted word by word."""

from __future__ import annotations

import pytest
import torch

from pmqbench.errors import DataError
from pmqbench.quantization.grid import LayerCodes, fit_grid
from pmqbench.quantization.storage import load_codes, packed_bytes, save_codes


def coded(out: int, width: int, bits: int, group_size: int | None, symmetric: bool) -> LayerCodes:
    weight = torch.randn(out, width, generator=torch.Generator().manual_seed(0))
    grid = fit_grid(weight, bits, group_size, symmetric)
    return LayerCodes.of(grid, grid.encode(weight))


def test_codes_come_back_bit_for_bit(tmp_path):
    codes = {"a.q": coded(6, 16, 4, None, False), "a.fc2": coded(5, 24, 3, 8, True)}
    save_codes(tmp_path / "codes.safetensors", codes)
    loaded = load_codes(tmp_path / "codes.safetensors")
    assert loaded.keys() == codes.keys()
    for layer, expected in codes.items():
        got = loaded[layer]
        assert (got.bits, got.codes.dtype, got.zero is None) == (expected.bits, expected.codes.dtype, expected.zero is None)
        assert torch.equal(got.codes, expected.codes)
        assert torch.equal(got.weight(), expected.weight())


def test_damaged_codes_are_an_error(tmp_path):
    path = tmp_path / "codes.safetensors"
    save_codes(path, {"a": coded(6, 16, 4, None, False)})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"codes\.safetensors"):
        load_codes(path)


@pytest.mark.parametrize(
    ("out", "width", "bits", "group_size", "symmetric", "expected"),
    [
        # words a row * rows * 4 + scales * 4 + zero words * 4 + 16
        (8, 64, 4, None, True, 8 * 8 * 4 + 8 * 4 + 16),
        (8, 64, 4, None, False, 8 * 8 * 4 + 8 * 4 + 1 * 4 + 16),
        (10, 64, 4, 16, False, 10 * 8 * 4 + 10 * 4 * 4 + 2 * 4 * 4 + 16),
        (5, 20, 3, 10, False, 5 * 2 * 4 + 5 * 2 * 4 + 1 * 2 * 4 + 16),
        (3, 33, 8, None, True, 3 * 9 * 4 + 3 * 4 + 16),
    ],
)
def test_packed_size(out, width, bits, group_size, symmetric, expected):
    codes = coded(out, width, bits, group_size, symmetric)
    assert packed_bytes({"a": codes}) == expected
    assert packed_bytes({"a": codes, "b": codes}) == 2 * expected
