"""Distillation on a GPU: near the CPU's, the same each time, whole after an interruption."""

import pytest
import torch

from pmqbench.quantization.problem import Expert
from pmqbench.refinement.distillation import Training
from pmqbench.refinement.engine import refine
from pmqbench.refinement.methods.distill import Distill
from tests.refinement.towers import QUICK

pytestmark = pytest.mark.gpu


def distilled(case, device, state=None, **options):
    model, codes = case.quantized()
    experts = {t: Expert(one.label, one.weights, lambda one=one: one.build().to(device)) for t, one in case.experts.items()}
    method = Distill(**QUICK | options)
    return refine(model.to(device), codes, method, case.calibration, experts, seed=0, state=state, identity="test")


@pytest.mark.parametrize("family", ["clip", "bert", "t5"])
def test_it_learns_as_on_the_cpu_and_the_same_each_time(cases, family, device):
    expected = distilled(cases[family], torch.device("cpu"))
    found, again = (distilled(cases[family], device) for _ in range(2))
    for one, other in zip(expected.curve, found.curve, strict=True):
        assert other["held_out"] == (one["held_out"] and pytest.approx(one["held_out"], rel=1e-3)), one["step"]
    assert [point["held_out"] for point in found.curve] == [point["held_out"] for point in again.curve]
    for layer, coded in found.codes.items():
        assert torch.equal(coded.weight(), found.tensors[f"{layer}.weight"])
        assert torch.equal(coded.codes, again.codes[layer].codes), f"{layer}: two runs on one GPU"


@pytest.mark.parametrize("options", [{"checkpointing": True}, {"forward_precision": "tf32"}, {"forward_precision": "bfloat16"}])
@pytest.mark.parametrize("family", ["clip", "bert", "t5"])
def test_cheaper_ways_learn_as_well(cases, family, options, device):
    plain, cheap = distilled(cases[family], device), distilled(cases[family], device, **options)
    assert cheap.curve[-1]["held_out"] == pytest.approx(plain.curve[-1]["held_out"], rel=0.05)
    assert cheap.curve[-1]["held_out"] < cheap.curve[0]["held_out"]


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(towers, device, tmp_path, monkeypatch):
    expected = distilled(towers, device)
    descend = Training.descend

    def stopping(training):
        if training.step == 7:
            training_file.save(training.stored())
            raise KeyboardInterrupt
        descend(training)

    run = Training.run

    def keeping(training, file):
        nonlocal training_file
        training_file = file
        run(training, file)

    training_file = None
    with monkeypatch.context() as patch:
        patch.setattr(Training, "descend", stopping)
        patch.setattr(Training, "run", keeping)
        with pytest.raises(KeyboardInterrupt):
            distilled(towers, device, state=tmp_path / "state.pt")
    found = distilled(towers, device, state=tmp_path / "state.pt")
    assert [point["held_out"] for point in found.curve] == [point["held_out"] for point in expected.curve]
    assert all(torch.equal(found.codes[layer].codes, coded.codes) for layer, coded in expected.codes.items())
