"""The method's invariants, numbered as in docs/quantization.md, on a model that is no CLIP, against float64."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.rtn import Rtn
from tests.quantization.toy import changed, close, inputs64, layers, reference, run


def objective(result) -> float:
    return sum(record["objective"]["final"] for record in result.records)


@pytest.mark.parametrize(
    "options", [{}, {"target_inputs": "expert"}, {"target_inputs": "mix", "alpha": 0.3, "task_weight": "uniform"}]
)
@pytest.mark.parametrize("bits", [3, 16])
def test_epmq_layers_against_float64(suite, options, bits):
    """W*, J, both deviations and the damping of every layer, from the inputs it has in the quantized model (invariant 3)."""
    method = Epmq(bits=bits, anchor=0.05, **options)
    model, result = run(suite, method)
    for record in result.records:
        expected = reference(suite, model, record["layer"], 0.05, method.teacher_share, method.task_weight)
        final = model.get_submodule(record["layer"]).weight
        target = expected.target()
        if bits == 16:
            assert torch.allclose(final.double(), target, atol=2e-5)
        else:
            error = final.double() - target
            assert close(record["quantization"]["absolute"], float(((error @ expected.pooled) * error).sum()), 2e-3)
            scale = float(((expected.merged @ expected.pooled) * expected.merged).sum())
            assert close(record["quantization"]["relative"], record["quantization"]["absolute"] / scale)
        assert record["task_weights"] == pytest.approx(expected.c, rel=1e-4)
        for task, x in expected.x.items():
            size = float((x @ expected.merged.T).square().sum(1).mean())
            assert close(record["merging"][task]["scale"], size, 1e-3)
        assert record["damping"] == 0.05
        for weight, key in ((expected.merged, "merged"), (target, "target"), (final, "final")):
            assert close(record["objective"][key], expected.objective(weight), 1e-3), key
            for task in suite.calibration:
                assert close(record["merging"][task][key], expected.merging(weight, task, own=False), 1e-3)
                if method.teacher_share:
                    assert close(record["merging_own_inputs"][task][key], expected.merging(weight, task), 1e-3)
                else:
                    assert record["merging_own_inputs"] is None


def test_the_target_is_the_minimum(suite):
    """Invariant 3: J(W*) <= J(W) for random W, near and far."""
    model, _ = run(suite, Epmq(bits=16))
    for layer in layers(model):
        expected = reference(suite, model, layer, 0.1)
        least = expected.objective(model.get_submodule(layer).weight)
        for size in (1e-3, 1e-2, 0.1, 1.0):
            noise = size * torch.randn(expected.merged.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            assert least <= expected.objective(model.get_submodule(layer).weight + noise)
        assert least < expected.objective(expected.merged)


def test_a_strong_anchor_gives_the_merged_weights(suite):
    """Invariant 1."""
    distance = []
    for anchor in (1.0, 1e3, 1e6):
        model, _ = run(suite, Epmq(bits=16, anchor=anchor))
        distance.append(
            max(float((model.get_submodule(n).weight - suite.merged.get_submodule(n).weight).norm()) for n in layers(model))
        )
    assert distance[0] > 100 * distance[1] > 100 * distance[2]
    assert distance[2] < 1e-5


@pytest.mark.parametrize("weight", ["frobenius", "uniform"])
def test_with_experts_equal_to_the_merged_model_epmq_is_gptq(make_suite, weight):
    """Invariant 2: bit for bit."""
    suite = make_suite(spread=0.0)
    epmq = run(suite, Epmq(anchor=0.07, task_weight=weight))[1]
    gptq = run(suite, Gptq(damping=0.07, task_weight=weight))[1]
    for layer, codes in epmq.codes.items():
        assert torch.equal(codes.codes, gptq.codes[layer].codes)
        assert torch.equal(codes.scale, gptq.codes[layer].scale)
    assert changed(gptq.codes, run(suite, Rtn())[1].codes) > 0


@pytest.mark.parametrize("method", [Epmq(), Gptq(task_weight="frobenius")], ids=["epmq", "gptq"])
@pytest.mark.parametrize("change", ["tasks", "batches", "layers"])
def test_order_of_summation_hardly_matters(suite, method, change):
    """Invariant 4: order of tasks, split into batches, and layers of one input solved together or alone."""
    model, calibration = suite.model(), suite.calibration
    if change == "tasks":
        calibration = dict(reversed(calibration.items()))
    if change == "batches":
        calibration = {task: list(torch.cat(batches).split(10)) for task, batches in calibration.items()}
    if change == "layers":
        model.blocks = tuple(
            dataclasses.replace(b, groups=tuple(dataclasses.replace(g, layers=(n,)) for g in b.groups for n in g.layers))
            for b in model.blocks
        )
    other = quantize_model(model, method, calibration, suite.experts)
    usual = run(suite, method)[1]
    assert changed(usual.codes, other.codes) < 5e-4
    assert close(objective(usual), objective(other), 1e-5)


def test_repeating_a_tasks_data_changes_nothing(suite):
    """Invariant 5: per-token means; plain GPTQ, which pools tokens, does change."""
    more = suite.calibration | {"two": suite.calibration["two"] * 20}
    method = Epmq(bits=16)
    usual, drowned = run(suite, method)[1], run(suite, method, calibration=more)[1]
    assert all(torch.allclose(usual.tensors[n], drowned.tensors[n], atol=1e-5) for n in usual.tensors)
    pooled = [run(suite, Gptq(), calibration=c)[1].records[0]["task_weights"]["two"] for c in (suite.calibration, more)]
    assert pooled == pytest.approx([1 / 3, 20 / 22])


def test_without_anchor_few_tokens_collapse_and_say_so(make_suite):
    """Invariant 6: no crash, no NaN, a remedy in the record, and W* fails on tokens it has not seen."""
    suite = make_suite(samples=1, spread=0.02)  # 5 tokens a task for 12 and 20 inputs
    one = {"one": suite.calibration["one"]}
    test = torch.randn(200, 5, 13, generator=torch.Generator().manual_seed(9))
    test[..., -1] = 1
    error = {}
    for anchor in (0.0, 0.1):
        model, result = run(suite, Epmq(bits=16, anchor=anchor), calibration=one)
        x, expert = inputs64(model, "body.0.up", [test]), suite.models["one"].body[0].up.weight.double()
        wanted = x @ expert.T
        error[anchor] = float((x @ model.body[0].up.weight.double().T - wanted).norm() / wanted.norm())
        assert all((record["remedy"] is None) == (anchor > 0) for record in result.records)
        assert all(bool(tensor.isfinite().all()) for tensor in result.tensors.values())
        json.dumps(result.records, allow_nan=False)
    assert "5 tokens for 12 inputs" in run(suite, Epmq(anchor=0.0), calibration=one)[1].records[0]["remedy"]
    assert error[0.0] > 0.3 > 4 * error[0.1]
    damped = run(suite, Epmq(anchor=0.0, damping=0.01), calibration=one)[1].records[0]
    assert damped["damping"] == 0.01
    assert damped["remedy"].startswith("target: ")


def test_gptq_records_against_float64(suite):
    model, result = run(suite, Gptq(bits=3))
    for record in result.records:
        expected = reference(suite, model, record["layer"], 0.01, weight="tokens")
        error = model.get_submodule(record["layer"]).weight.double() - expected.merged
        assert close(record["quantization"]["absolute"], float(((error @ expected.pooled) * error).sum()), 1e-3)
        assert close(record["objective"]["final"], float(((error @ expected.damped) * error).sum()), 1e-3)
        assert record["objective"]["final"] < record["objective"]["nearest"]
        assert record["objective"]["target"] == record["objective"]["merged"] == 0
        for task in suite.calibration:
            assert close(record["merging"][task]["final"], expected.merging(expected.merged + error, task), 1e-3)
    assert all(record["merging"] is None for record in run(suite, Gptq(), experts={})[1].records)
