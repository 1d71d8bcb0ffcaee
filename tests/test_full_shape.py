"""The full-shape benchmark: the sizes of its models, and its stages on a small one."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

from benchmarks.shapes import clip
from benchmarks.shapes import shapes as shapes_of
from pmqbench.files import read_json
from pmqbench.quantization.packing import load_codes

PATH = Path(__file__).parents[1] / "benchmarks" / "full_shape.py"


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("full_shape", PATH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("model", "parameters"), [("vit-b-32", 87_456_000), ("vit-l-14", 303_179_776)])
def test_models_have_the_real_size(bench, model, parameters):
    shapes = shapes_of(*bench.MODELS[model])
    assert sum(map(math.prod, shapes.values())) == parameters


def test_every_stage(bench, monkeypatch, tmp_path):
    monkeypatch.setitem(bench.MODELS, "small", ("clip", clip(64, 2, 112)))
    job = bench.Job("small", tmp_path, samples=5, batch=4, threads=1)
    for stage in bench.STAGES:
        job.run(stage)
        figures = read_json(tmp_path / f"{stage}.json")
        assert figures["seconds"] > 0
        assert figures["mb"] > 0
    layer = "encoder.layers.0.mlp.fc1.weight"
    base, merged = (job.family.checkpoint(tmp_path / name).tensor(layer) for name in ("base", "merged"))
    experts = [job.family.checkpoint(tmp_path / task).tensor(layer) for task in bench.TASKS]
    assert (merged - (base + 0.3 * sum(expert - base for expert in experts))).abs().max() < 1e-6
    first, second = (load_codes(tmp_path / method / "packed.safetensors") for method in ("gptq", "epmq"))
    assert first.keys() == second.keys()
    assert len(first) == 2 * 6
    assert not all(bool((first[name].codes == second[name].codes).all()) for name in first)
