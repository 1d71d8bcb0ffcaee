"""Checkpoints: safetensors files whose headers lie, and packed files whose parts do not fit each other."""

import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from pmqbench.checkpoints import Checkpoint, Slot, check_same_layout
from pmqbench.errors import PMQError
from pmqbench.integrity import verify_tensors
from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.packing import load_codes, packed_layer
from pmqbench.tasks.splits import load_split
from tests.fuzz.inputs import TEXTS, changed, damaged
from tests.fuzz.survival import outcome

TENSORS = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5, dtype=torch.float16), "c": torch.tensor(1.0)}
FILE = save(TENSORS, {"format": "pt"})
LENGTH = int.from_bytes(FILE[:8], "little")
HEADER, BODY = json.loads(FILE[8 : 8 + LENGTH]), FILE[8 + LENGTH :]
DTYPES = st.sampled_from(["F64", "BF16", "F8_E4M3", "F8_E8M0", "F4", "I64", "U8", "BOOL", "C64", "X", ""])
SLOTS = {"a": Slot("a", (0, 2)), "b": Slot("b", (1, 9)), "c": Slot("c", (0, 1)), "d": Slot("d")}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints") / "file.safetensors"


def with_header(header, body=BODY, length=None):
    """A safetensors file of that header, whatever it says; names that stand twice are given as a list of pairs."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


HEADERS = st.one_of(
    changed(HEADER).map(with_header),
    st.tuples(changed(HEADER), st.integers(0, 2**64 - 1)).map(lambda pair: with_header(pair[0], length=pair[1])),
    st.tuples(st.sampled_from("abc"), DTYPES).map(
        lambda pair: with_header(HEADER | {pair[0]: HEADER[pair[0]] | {"dtype": pair[1]}})
    ),
    st.lists(st.integers(-4, 2**64), max_size=3).map(lambda shape: with_header(HEADER | {"a": HEADER["a"] | {"shape": shape}})),
    st.lists(st.integers(0, 100), min_size=2, max_size=2).map(
        lambda offsets: with_header(HEADER | {"a": HEADER["a"] | {"data_offsets": offsets}})
    ),
    TEXTS.map(lambda name: with_header({("c" if key == "b" else name if key == "a" else key): HEADER[key] for key in HEADER})),
    st.just(with_header(json.dumps(HEADER).encode().replace(b'"b"', b'"a"'))),
    st.just(with_header(b"[" * 100_000)),
    st.just(with_header(json.dumps({"a" * 10_000_000: {}}).encode())),
    damaged(FILE),
    st.binary(max_size=64),
)


@given(content=HEADERS)
def test_headers(content, file):
    file.write_bytes(content)
    outcome(verify_tensors, file)
    for slots in (None, SLOTS):
        read = outcome(Checkpoint, file, slots, "expert")
        if isinstance(read, PMQError):
            return
        outcome(read.metadata)
        outcome(check_same_layout, read, read)
        for name in read.names():
            outcome(read.shape, name)
            tensor = outcome(read.tensor, name)
            if not isinstance(tensor, PMQError):
                assert tensor.nbytes <= len(content)
        outcome(read.loaded, {"a": (3, 4), "b": (5,)})


CODES = LayerCodes(
    3, torch.randint(0, 8, (6, 8), dtype=torch.uint8), torch.rand(6, 2) + 0.1, torch.ones(6, 2, dtype=torch.uint8)
)
PARTS = {f"layer.{name}": tensor for name, tensor in packed_layer(CODES).items()} | {"norm.weight": torch.ones(4)}
ODD_TENSORS = st.one_of(
    st.lists(st.integers(-1, 5), max_size=3).map(lambda shape: torch.ones([abs(side) for side in shape], dtype=torch.int32)),
    st.lists(st.integers(-(2**62), 2**62), max_size=3).map(lambda numbers: torch.tensor(numbers, dtype=torch.int64)),
    st.sampled_from(
        [torch.full((6, 2), float("nan")), torch.zeros(6, 2), -torch.ones(6, 2), torch.tensor(2.5), torch.ones(6, 4)]
    ),
)


@given(
    bits=st.sampled_from(["3", "3", "3", "0", "-1", "33", "8", "16", "x", "", "3.0", "9" * 5000, "\u0663"]),
    part=st.sampled_from(sorted(PARTS)),
    tensor=st.none() | ODD_TENSORS,
    metadata=st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)
def test_packed_files(bits, part, tensor, metadata, file):
    parts = {name: kept for name, kept in PARTS.items() if name != part} | ({} if tensor is None else {part: tensor})
    file.write_bytes(save(parts, {"format": "pt", "layer.bits": bits} if metadata is None else metadata))
    read = outcome(load_codes, file)
    if isinstance(read, PMQError):
        return
    for codes in read.values():
        weight = outcome(codes.weight)
        assert weight.isfinite().all()
        assert int(codes.codes.max()) < 2**codes.bits
        assert codes.scale.shape[0] == codes.codes.shape[0] == weight.shape[0]


@given(
    content=damaged(save({"images": torch.zeros(4, 3, 2, 2, dtype=torch.uint8), "labels": torch.zeros(4, dtype=torch.int64)}))
)
def test_splits(content, file):
    file.write_bytes(content)
    outcome(load_split, file)
