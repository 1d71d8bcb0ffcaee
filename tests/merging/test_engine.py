"""The engine: validation, dtypes, integer buffers, canonical names of packed checkpoints, memory."""

import gc
import json
import weakref
from collections.abc import Collection

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pmqbench.checkpoints import Checkpoint
from pmqbench.errors import DataError, NumericalError, PMQError
from pmqbench.families.open_clip import CONFIG, WEIGHTS, OpenClip, pack
from pmqbench.merging.base import MERGERS
from pmqbench.merging.engine import linear_weights, merge, same_experts
from pmqbench.merging.task_arithmetic import TaskArithmetic

METHODS = [MERGERS.get(name)() for name in MERGERS.names()]
every_method = pytest.mark.parametrize("method", METHODS, ids=MERGERS.names())


@every_method
def test_integer_tensors_come_from_the_base(method, write, random_models) -> None:
    base, experts = random_models(2)
    ids = torch.arange(5)
    files = [write(f"e{i}", expert | {"ids": ids + 1 + i}) for i, expert in enumerate(experts)]
    merged = merge(method, write("base", base | {"ids": ids}), files)
    assert torch.equal(merged["ids"], ids)
    without = merge(method, write("plain", base), [write(f"p{i}", expert) for i, expert in enumerate(experts)])
    assert all(torch.equal(merged[name], without[name]) for name in base)


@every_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_result_has_the_bases_dtype(method, dtype: torch.dtype, write, random_models) -> None:
    """Half-precision inputs are merged in float32 and rounded once."""
    base, experts = random_models(2)
    half = [{name: value.to(dtype) for name, value in model.items()} for model in (base, *experts)]
    wide = [{name: value.float() for name, value in model.items()} for model in half]
    merged = merge(method, *_split([write(f"half{i}", model) for i, model in enumerate(half)]))
    exact = merge(method, *_split([write(f"wide{i}", model) for i, model in enumerate(wide)]))
    assert all(merged[name].dtype == dtype for name in merged)
    assert all(torch.equal(merged[name], exact[name].to(dtype)) for name in merged)


def faulty(kind: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = "a.bias"
    if kind == "missing":
        return {n: v for n, v in tensors.items() if n != name}
    if kind == "extra":
        return tensors | {"a.bias.lora": torch.zeros(2)}
    bad = tensors[name].clone()
    if kind == "shape":
        bad = bad[None]
    elif kind == "integer":
        bad = bad.int()
    else:
        bad[3] = float(kind)
    return tensors | {name: bad}


MESSAGES = {
    "missing": "is missing",
    "extra": "is not in the base",
    "shape": r"has shape \(1, 7\), in the base \(7,\)",
    "integer": "torch.int32",
    "nan": "1 of 7 values are NaN or Inf",
    "inf": "1 of 7 values are NaN or Inf",
    "-inf": "1 of 7 values are NaN or Inf",
}


@every_method
@pytest.mark.parametrize("kind", MESSAGES)
def test_faulty_expert(kind: str, method, write, random_models) -> None:
    base, experts = random_models(3)
    files = [write(label, expert) for label, expert in zip(("digits", "shapes"), experts, strict=False)]
    files.append(write("textures", faulty(kind, experts[2])))
    with pytest.raises(PMQError, match=MESSAGES[kind]) as error:
        merge(method, write("base", base), files)
    assert isinstance(error.value, NumericalError if "inf" in kind or kind == "nan" else DataError)
    assert "textures" in error.value.where
    assert "a.bias" in str(error.value)
    assert error.value.remedy


@every_method
@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_faulty_base(value: str, method, write, random_models) -> None:
    base, experts = random_models(1)
    with pytest.raises(NumericalError, match=r"base: a\.bias"):
        merge(method, write("base", faulty(value, base)), [write("e0", experts[0])])


def test_large_finite_values_are_no_error(write) -> None:
    """Their sum overflows float32; each of them is fine."""
    base, expert = {"w": torch.full((4,), 3e38)}, {"w": torch.full((4,), 3.1e38)}
    merged = merge(TaskArithmetic(scaling=1.0), write("base", base), [write("e0", expert)])
    assert torch.equal(merged["w"], expert["w"])


def test_overflow_of_the_bases_dtype(write) -> None:
    base, expert = {"w": torch.zeros(4, dtype=torch.float16)}, {"w": torch.full((4,), 6e4)}
    with pytest.raises(NumericalError, match=r"merged model: w: .*4 of 4"):
        merge(TaskArithmetic(scaling=2.0), write("base", base), [write("e0", expert)])


def test_nothing_to_merge(write, random_models) -> None:
    with pytest.raises(DataError, match="no expert"):
        merge(TaskArithmetic(), write("base", random_models(1)[0]), [])
    with pytest.raises(DataError, match="no floating-point tensor"):
        merge(TaskArithmetic(), write("ids", {"ids": torch.arange(3)}), [write("e0", {"ids": torch.arange(3)})])


CLIP = {
    "model_cfg": {"vision_cfg": {"width": 8, "layers": 2, "head_width": 4, "image_size": 8, "patch_size": 4}},
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
STORED = {
    "visual.class_embedding": (8,), "visual.conv1.weight": (8, 3, 4, 4), "visual.positional_embedding": (5, 8),
    **{f"visual.{ln}.{part}": (8,) for ln in ("ln_pre", "ln_post") for part in ("weight", "bias")},
    **{
        f"visual.transformer.resblocks.{i}.{name}": shape
        for i in range(2)
        for name, shape in {
            "ln_1.weight": (8,), "ln_1.bias": (8,), "ln_2.weight": (8,), "ln_2.bias": (8,),
            "attn.in_proj_weight": (24, 8), "attn.in_proj_bias": (24,),
            "attn.out_proj.weight": (8, 8), "attn.out_proj.bias": (8,),
            "mlp.c_fc.weight": (32, 8), "mlp.c_fc.bias": (32,), "mlp.c_proj.weight": (8, 32), "mlp.c_proj.bias": (8,),
        }.items()
    },
}  # fmt: skip


@every_method
def test_packed_open_clip(method, write, tmp_path) -> None:
    """A packed checkpoint merges like a file of its canonical tensors."""
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=generator) for name, shape in STORED.items()}
    models = [base, *({n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in base.items()} for _ in range(3))]
    towers = []
    for i, model in enumerate(models):
        folder = tmp_path / f"model{i}"
        folder.mkdir()
        (folder / CONFIG).write_text(json.dumps(CLIP))
        write(f"model{i}/{WEIGHTS.removesuffix('.safetensors')}", model | {"logit_scale": torch.tensor(float(i))})
        towers.append(OpenClip().checkpoint(folder, f"tower {i}"))
    merged = merge(method, *_split(towers))
    assert "encoder.layers.1.self_attn.k_proj.weight" in merged
    assert pack(merged).keys() == base.keys()
    apart = [{name: tower.tensor(name) for name in tower.names()} for tower in towers]
    expected = merge(method, *_split([write(f"apart{i}", tensors) for i, tensors in enumerate(apart)]))
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], expected[name]) for name in merged)


def test_linear_weights_are_those_of_the_blocks(write, tmp_path) -> None:
    """The family's config is enough; positions and patches are no linear weights."""
    (tmp_path / CONFIG).write_text(json.dumps(CLIP))
    write(WEIGHTS.removesuffix(".safetensors"), {name: torch.zeros(shape) for name, shape in STORED.items()})
    layers = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
    expected = {f"encoder.layers.{i}.{layer}.weight" for i in range(2) for layer in layers}
    names = linear_weights(OpenClip(), tmp_path)
    assert set(names) == expected
    assert expected < set(OpenClip().checkpoint(tmp_path).names())


def _split(checkpoints: list[Checkpoint]) -> tuple[Checkpoint, list[Checkpoint]]:
    return checkpoints[0], checkpoints[1:]


class PeakBytes(TorchDispatchMode):
    """Highest sum of the storages alive of tensors made under it."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[weakref.ref, int, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.alive[id(tensor)] = (weakref.ref(tensor), storage.data_ptr(), storage.nbytes())
        self.alive = {key: entry for key, entry in self.alive.items() if entry[0]() is not None}
        self.peak = max(self.peak, sum({pointer: size for _, pointer, size in self.alive.values()}.values()))
        return result


def peak_models(method, base: Checkpoint, experts: list[Checkpoint], linear: Collection[str]) -> float:
    """Peak memory of a merge, in float32 copies of the model."""
    gc.collect()
    with PeakBytes() as recorder:
        merged = merge(method, base, experts, linear)
    return recorder.peak / sum(value.nbytes for value in merged.values())


@every_method
@pytest.mark.parametrize("linear", [False, True])
def test_memory_does_not_grow_with_experts(method, linear: bool, write) -> None:
    generator = torch.Generator().manual_seed(0)
    models = [{f"w{i}": torch.randn(250, 160, generator=generator) for i in range(24)} for _ in range(9)]
    base, experts = _split([write(str(i), model) for i, model in enumerate(models)])
    two, eight = (peak_models(method, base, experts[:n], base.names() if linear else ()) for n in (2, 8))
    assert 1 < eight < 2
    assert eight < two + 0.01


def test_one_expert_given_twice_is_a_warning(write, random_models, caplog) -> None:
    base, experts = random_models(3)
    files = [write(label, model) for label, model in zip(("a", "b", "c", "d"), (*experts, experts[0]), strict=True)]
    assert same_experts(files) == [["a", "d"]]
    merge(TaskArithmetic(), write("base", base), files[:3])
    assert caplog.messages == []
    merge(TaskArithmetic(), write("base", base), files)
    assert [message.split(" are one")[0] for message in caplog.messages] == ["a, d"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64])
def test_experts_are_told_apart_by_any_tensor(write, dtype: torch.dtype) -> None:
    tensors = {"w": torch.ones(3), "n": torch.tensor(2, dtype=dtype)}
    files = [write("one", tensors), write("same", tensors), write("other", tensors | {"n": torch.tensor(3, dtype=dtype)})]
    assert same_experts(files) == [["one", "same"]]
