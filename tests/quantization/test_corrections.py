"""Refitted biases and norms against least squares in float64."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.methods.epmq import Epmq
from tests.quantization.toy import inputs64, layers, reference


def quantized(suite, method):
    model = suite.model()
    return model, quantize_model(model, method, suite.calibration, suite.experts)


@pytest.mark.parametrize("anchor", [0.0, 0.5])
@pytest.mark.parametrize("target_inputs", ["student", "expert"])
def test_bias_is_the_least_squares_solution(suite, anchor, target_inputs):
    method = Epmq(bits=3, fit_bias=True, bias_anchor=anchor, target_inputs=target_inputs)
    model, result = quantized(suite, method)
    for record in result.records:
        layer = record["layer"]
        expected = reference(suite, model, layer, 0.1, method.teacher_share)
        module, merged = model.get_submodule(layer), suite.merged.get_submodule(layer).bias.double()
        rows, wanted = [], []
        for task, c in expected.c.items():
            bias = suite.models[task].get_submodule(layer).bias.double()
            gap = expected.teachers[task] @ expected.y[task].mean(0) + bias - module.weight.double() @ expected.x[task].mean(0)
            rows.append(c**0.5)
            wanted.append(c**0.5 * gap)
        rows.append(anchor**0.5)
        wanted.append(anchor**0.5 * merged)
        solution = torch.linalg.lstsq(torch.tensor(rows, dtype=torch.float64)[:, None], torch.stack(wanted)).solution[0]
        assert torch.allclose(module.bias.double(), solution, atol=1e-4)
        assert record["bias_shift"] == pytest.approx(float((solution - merged).norm()), rel=1e-3)


def test_biases_stay_without_fit_bias(suite):
    model, result = quantized(suite, Epmq())
    for layer in layers(model):
        assert torch.equal(model.get_submodule(layer).bias, suite.merged.get_submodule(layer).bias)
    assert all(record["bias_shift"] is None for record in result.records)


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("anchor", [0.0, 0.2])
def test_norms_are_the_least_squares_solution(suite, share, anchor):
    method = Epmq(fit_norms=True, norm_anchor=anchor, target_inputs="mix" if share else "student", alpha=share)
    model, _ = quantized(suite, method)
    for i in range(2):
        fitted, merged = model.body[i].norm, suite.merged.body[i].norm
        layer = f"body.{i}.up"
        norm = {}
        for task, batches in suite.calibration.items():
            x = inputs64(model, layer, batches)
            z = (x - fitted.bias.double()) / fitted.weight.double()
            own = inputs64(suite.models[task], layer, batches)
            expert = suite.models[task].body[i].norm
            student = expert.weight.double() * z + expert.bias.double()
            norm[task] = (z, share * own + (1 - share) * student)
        for channel in range(12):
            rows, wanted = [], []
            for z, u in norm.values():
                scale = (3 * len(z)) ** -0.5
                rows.append(scale * torch.stack([z[:, channel], torch.ones(len(z), dtype=torch.float64)], 1))
                wanted.append(scale * u[:, channel])
            power = sum(z[:, channel].square().mean() for z, _ in norm.values()) / 3
            pull = torch.tensor([(anchor * power) ** 0.5, anchor**0.5], dtype=torch.float64)
            rows.append(torch.diag(pull))
            wanted.append(pull * torch.stack([merged.weight[channel], merged.bias[channel]]).double())
            solution = torch.linalg.lstsq(torch.cat(rows), torch.cat(wanted)[:, None]).solution[:, 0]
            got = torch.stack([fitted.weight[channel], fitted.bias[channel]]).double()
            assert torch.allclose(got, solution, atol=1e-4)


def test_norms_of_equal_experts_stay(make_suite):
    suite = make_suite(spread=0.0)
    model, _ = quantized(suite, Epmq(fit_norms=True))
    assert torch.allclose(model.body[1].norm.weight, suite.merged.body[1].norm.weight, atol=1e-5)
    assert torch.allclose(model.body[1].norm.bias, suite.merged.body[1].norm.bias, atol=1e-5)


def test_a_channel_that_never_varies_keeps_its_norm_without_an_anchor(make_suite):
    """The norm's input is the same for all tokens: scale and offset cannot be told apart."""
    suite = make_suite()
    constant = {task: [torch.ones(4, 5, 13)] for task in suite.calibration}
    model, _ = quantized(dataclasses.replace(suite, calibration=constant), Epmq(fit_norms=True, norm_anchor=0.0))
    assert torch.equal(model.body[0].norm.weight, suite.merged.body[0].norm.weight)
    assert torch.equal(model.body[0].norm.bias, suite.merged.body[0].norm.bias)


def test_a_norm_without_bias_is_refitted_too(make_suite):
    suite = make_suite()

    class Rms(torch.nn.RMSNorm):
        bias = None

    for model in (suite.merged, *suite.models.values()):
        for block in model.body:
            weight = block.norm.weight
            block.norm = Rms(12)
            block.norm.weight = weight
    model, _ = quantized(suite, Epmq(fit_norms=True, norm_anchor=0.0))
    for i in range(2):
        weight = model.body[i].norm.weight.double()
        top = bottom = 0
        for task, batches in suite.calibration.items():
            z = inputs64(model, f"body.{i}.up", batches) / weight
            top += suite.models[task].body[i].norm.weight.double() * z.square().mean(0)
            bottom += z.square().mean(0)
        assert torch.allclose(weight, top / bottom, atol=1e-4)
