"""The code paths of a GPU on a device that is none: nothing is mixed up, and numbers are the CPU's."""

import copy

import pytest
import torch

from pmqbench.evaluation.protocols.zero_shot import classify
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.mixed import Mixed
from pmqbench.quantization.methods.qronos import Qronos
from pmqbench.quantization.problem import Expert
from tests.devices.pretended import Elsewhere, pretended

RUNS = {
    "clip": (Epmq(target_inputs="expert"), Qronos(act_order=True), Mixed(bits=3, probe_samples=2)),
    "bert": (Gptq(descent_passes=1, refit_scales=True, group_size=8),),
    "t5": (Epmq(),),
}


def moved(experts, device):
    return {task: Expert(one.label, one.weights, lambda one=one: one.build().to(device)) for task, one in experts.items()}


def test_what_is_mixed_up_is_an_error(monkeypatch):
    with pretended("cuda", monkeypatch) as device:
        here, there = torch.ones(3, 3), torch.ones(3, 3).to(device)
        assert (there @ there).device == device
        assert float((there * torch.tensor(2.0))[torch.tensor([0])].sum()) == 6
        for mixed in (lambda: here @ there, lambda: here.add_(there), lambda: torch.where(here > 0, there, there)):
            with pytest.raises(RuntimeError, match="two devices"):
                mixed()
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        layer = torch.nn.Linear(3, 3).to(device)
        layer.weight.data, layer.bias.data = 0 * there, there[0]
        assert layer(there).cpu().tolist() == [[1] * 3] * 3


@pytest.mark.parametrize(("family", "method"), [(family, method) for family, methods in RUNS.items() for method in methods])
def test_quantization_runs_there_and_gives_the_same_codes(cases, family, method, monkeypatch):
    case = cases[family]
    expected = quantize_model(copy.deepcopy(case.merged), method, case.calibration, case.experts)
    with pretended("cuda", monkeypatch) as device:
        model = copy.deepcopy(case.merged).to(device)
        found = quantize_model(model, method, case.calibration, moved(case.experts, device))
    assert not any(isinstance(tensor, Elsewhere) for tensor in found.tensors.values())
    assert expected.codes.keys() == found.codes.keys()
    for layer, coded in expected.codes.items():
        assert torch.equal(coded.codes, found.codes[layer].codes), layer
        assert torch.equal(found.codes[layer].weight(), found.tensors[f"{layer}.weight"]), layer


def test_evaluation_runs_there(towers, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    classes = torch.nn.functional.normalize(torch.randn(5, 32, generator=generator), dim=-1)
    head = {"classes": classes, "logit_scale": torch.tensor(100.0)}
    batches = [(images, torch.arange(len(images)) % 5) for images in towers.calibration["a"]]
    expected = classify(towers.merged, head, batches, "cpu", "test")
    with pretended("cuda", monkeypatch) as device:
        found = classify(copy.deepcopy(towers.merged).to(device), head, batches, device, "test")
    assert torch.equal(found.correct, expected.correct)
    assert torch.allclose(found.loss, expected.loss, rtol=1e-4, atol=1e-3)
