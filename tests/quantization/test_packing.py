"""Bit packing against compressed-tensors' own, files against what was written, sizes counted word by word."""

from __future__ import annotations

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from safetensors import safe_open

from pmqbench.checkpoints import Checkpoint
from pmqbench.errors import DataError
from pmqbench.quantization.grid import LayerCodes, fit_grid
from pmqbench.quantization.packing import load_codes, pack, packed_layer, save_packed, unpack


def coded(out: int, width: int, bits: int, group_size: int | None, symmetric: bool) -> LayerCodes:
    weight = torch.randn(out, width, generator=torch.Generator().manual_seed(0))
    grid = fit_grid(weight, bits, group_size, symmetric)
    return LayerCodes.of(grid, grid.encode(weight))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (3, 7), (2, 32), (5, 33), (4, 100)])
def test_packing_is_compressed_tensors(bits, rows, count):
    codes = torch.randint(2**bits, (rows, count), dtype=torch.uint8, generator=torch.Generator().manual_seed(bits))
    packed = pack(codes, bits)
    signed = (codes.to(torch.int16) - 2 ** (bits - 1)).to(torch.int8)
    assert torch.equal(packed, pack_to_int32(signed, bits))
    assert torch.equal(unpack(packed, bits, count), codes)
    assert torch.equal(unpack_from_int32(packed, bits, codes.shape), signed)


def test_a_model_comes_back_bit_for_bit(tmp_path):
    codes = {"a.q": coded(6, 16, 3, None, False), "a.fc2": coded(5, 24, 8, 8, True), "b": coded(37, 33, 2, 11, False)}
    tensors = {f"{layer}.weight": part.weight() for layer, part in codes.items()} | {"a.q.bias": torch.randn(6)}
    size = save_packed(tmp_path / "packed.safetensors", tensors, codes)
    assert size == (tmp_path / "packed.safetensors").stat().st_size
    stored = Checkpoint(tmp_path / "packed.safetensors")
    assert torch.equal(stored.tensor("a.q.bias"), tensors["a.q.bias"])
    assert not any(name in stored for name in tensors if name != "a.q.bias")
    loaded = load_codes(tmp_path / "packed.safetensors")
    assert loaded.keys() == codes.keys()
    for layer, expected in codes.items():
        got = loaded[layer]
        assert (got.bits, got.codes.dtype, got.zero is None) == (expected.bits, expected.codes.dtype, expected.zero is None)
        assert torch.equal(got.codes, expected.codes)
        assert torch.equal(got.weight(), expected.weight())


def test_equal_models_are_equal_files(tmp_path):
    # The metadata, a name each of many layers, stand in one order, whatever the order of a hash map is this time.
    codes = {f"blocks.{index}.fc – {index}": coded(3, 8, 4, None, False) for index in range(40)}
    files = [tmp_path / f"{index}.safetensors" for index in range(3)]
    for file in files:
        save_packed(file, {"norm": torch.ones(5)}, codes)
    assert len({file.read_bytes() for file in files}) == 1
    with safe_open(files[0], framework="numpy") as stored:
        assert stored.metadata() == {"format": "pt"} | {f"{layer}.bits": "4" for layer in codes}
        assert stored.get_tensor("norm").tolist() == [1] * 5


def test_a_damaged_file_is_an_error(tmp_path):
    path = tmp_path / "packed.safetensors"
    save_packed(path, {}, {"a": coded(6, 16, 4, None, False)})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"packed\.safetensors"):
        load_codes(path)


@pytest.mark.parametrize(
    ("out", "width", "bits", "group_size", "symmetric", "expected"),
    [
        # words a row * rows * 4 + scales * 4 + zero words * 4 + 16 for the shape
        (8, 64, 4, None, True, 8 * 8 * 4 + 8 * 4 + 16),
        (8, 64, 4, None, False, 8 * 8 * 4 + 8 * 4 + 1 * 4 + 16),
        (10, 64, 4, 16, False, 10 * 8 * 4 + 10 * 4 * 4 + 2 * 4 * 4 + 16),
        (5, 20, 3, 10, False, 5 * 2 * 4 + 5 * 2 * 4 + 1 * 2 * 4 + 16),
        (3, 33, 8, None, True, 3 * 9 * 4 + 3 * 4 + 16),
    ],
)
def test_packed_size(out, width, bits, group_size, symmetric, expected):
    tensors = packed_layer(coded(out, width, bits, group_size, symmetric))
    assert sum(tensor.nbytes for tensor in tensors.values()) == expected
