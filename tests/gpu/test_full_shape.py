"""Seconds and memory at the real size, B/32 with 8 tasks of 256 samples. Figures are printed: `make test-gpu` shows them."""

import argparse
import time

import pytest
import torch

from benchmarks import distillation
from benchmarks.shapes import MODELS, experts, inputs, merge_models, write_models
from pmqbench.families.base import FAMILIES
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.refinement.distillation import Training

pytestmark = pytest.mark.gpu

MODEL, TASKS, SAMPLES = "vit-b-32", [f"task{index}" for index in range(8)], 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Base, 8 experts and their merge, of random weights."""
    folder, (family, config) = tmp_path_factory.mktemp("models"), MODELS[MODEL]
    write_models(folder, family, config, TASKS)
    merge_models(folder, family, TASKS)
    return folder


def test_epmq_takes_seconds(folder, device, capsys):
    family, config = MODELS[MODEL]
    calibration = {task: inputs(family, config, SAMPLES, 64, seed) for seed, task in enumerate(TASKS)}
    given = experts(folder, family, TASKS, "cuda")
    taken = []
    for part in (1, 4):  # the first run, on a batch a task, compiles the kernel and reads the experts from disk
        model = FAMILIES.get(family)().build(folder / "merged").to(device)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        some = {task: batches[:part] for task, batches in calibration.items()}
        quantize_model(model, Epmq(calibration_samples=SAMPLES), some, given)
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 1e9
    with capsys.disabled():
        print(f"\nE-PMQ, {MODEL}, 8 x {SAMPLES}: {taken[1]:.2f} s (first call {taken[0]:.2f} s), {peak:.2f} GB, {name()}")
    assert taken[1] < 10
    assert peak < 4


@pytest.mark.parametrize(("precision", "seconds"), [("float32", 0.4), ("bfloat16", 0.2)])
def test_distillation_takes_a_fraction_of_a_second_a_step(folder, precision, seconds, capsys, monkeypatch):
    options = argparse.Namespace(
        model=MODEL, experts=8, samples=SAMPLES, batch=32, steps=30, blocks=None, threads=4, precision=precision
    )
    options.checkpointing = False
    monkeypatch.setattr(Training, "descend", Training.descend)  # which the benchmark replaces
    torch.cuda.reset_peak_memory_stats()
    figures = distillation.run(options, folder)
    with capsys.disabled():
        print(f"\ndistillation, {MODEL}, 8 x {SAMPLES}, {precision}: {figures}, {name()}")
    assert figures["step"] < seconds
    assert figures["mb"] < 12_000


def name():
    return torch.cuda.get_device_name()
