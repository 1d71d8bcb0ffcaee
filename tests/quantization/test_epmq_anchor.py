"""Where E-PMQ's anchor lies and what it weighs, against float64."""

from __future__ import annotations

import copy

import pytest
import torch

from pmqbench.errors import DataError
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.quantization.calibrate import Expert, quantize_model
from pmqbench.quantization.methods.epmq import Epmq
from tests.quantization.toy import close, inputs64, layers, reference


class Weights:
    """A base's checkpoint."""

    def __init__(self, model):
        self.model = model

    def tensor(self, name):
        return self.model.state_dict()[name]


@pytest.fixture(scope="module")
def base(suite):
    torch.manual_seed(3)
    model = copy.deepcopy(suite.merged)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def quantized(suite, method, base=None):
    model = suite.model()
    given = None if base is None else Expert("base", Weights(base), lambda: base)
    return model, quantize_model(model, method, suite.calibration, suite.experts, base=given)


@pytest.mark.parametrize("weight", ["frobenius", "uniform"])
@pytest.mark.parametrize("unit", ["mean_diag", "frobenius"])
@pytest.mark.parametrize("rho", [1.0, 2.2, 0.0])
def test_weights_and_records(suite, base, rho, unit, weight):
    """W* and J of every layer with the anchor at rho W_merged + (1 - rho) W_0; strength by unit."""
    method = Epmq(bits=3, anchor=0.05, rho=rho, anchor_unit=unit, task_weight=weight, target_inputs="mix")
    model, result = quantized(suite, method, base)
    for record in result.records:
        layer = record["layer"]
        plain = reference(suite, model, layer, 0.0, method.teacher_share, weight)
        raw = [1 / h.norm() if weight == "frobenius" else 1.0 for h in plain.second.values()]
        strength = 0.05 if unit == "mean_diag" else float(0.05 / sum(raw) / plain.mu)
        assert close(record["damping"], strength)
        expected = reference(suite, model, layer, strength, method.teacher_share, weight)
        merged = expected.merged
        expected.merged = rho * merged + (1 - rho) * base.get_submodule(layer).weight.double()
        final = model.get_submodule(layer).weight
        for value, key in ((merged, "merged"), (expected.target(), "target"), (final, "final")):
            assert close(record["objective"][key], expected.objective(value), 1e-3), key


@pytest.mark.parametrize("unit", ["mean_diag", "frobenius"])
def test_biases(suite, base, unit):
    """[sum_t w_t (b_t + W_t E y - W E x) + anchor b_a] / (sum_t w_t + anchor), w_t rescaled to sum 1 with mean_diag."""
    model, _ = quantized(suite, Epmq(bits=3, rho=1.7, anchor_unit=unit, fit_bias=True, bias_anchor=0.4), base)
    for layer in layers(model):
        plain = reference(suite, model, layer, 0.0)
        raw = {t: float(1 / h.norm()) for t, h in plain.second.items()}
        weights = plain.c if unit == "mean_diag" else raw
        module = model.get_submodule(layer)
        point = 1.7 * suite.merged.get_submodule(layer).bias - 0.7 * base.get_submodule(layer).bias
        total = 0.4 * point.double()
        for t, w in weights.items():
            gap = plain.teachers[t] @ plain.x[t].mean(0) - module.weight.double() @ plain.x[t].mean(0)
            total += w * (suite.models[t].get_submodule(layer).bias.double() + gap)
        torch.testing.assert_close(module.bias.double(), total / (sum(weights.values()) + 0.4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("unit", ["mean_diag", "frobenius"])
@pytest.mark.parametrize("fit", ["first", "joint"])
def test_norms(suite, base, unit, fit):
    """A 2 x 2 system a channel; "joint" takes the expert's parameters on this model's inputs, "first" the mixture."""
    method = Epmq(rho=1.7, anchor_unit=unit, fit_norms=True, norm_anchor=0.4, norm_fit=fit, target_inputs="mix", alpha=0.5)
    model, _ = quantized(suite, method, base)
    norm, merged, origin = (m.body[0].norm for m in (model, suite.merged, base))
    z, u = {}, {}
    for t, batches in suite.calibration.items():
        start, expert = suite.merged.body[0].norm, suite.models[t].body[0].norm
        z[t] = (inputs64(suite.merged, "body.0.up", batches) - start.bias.double()) / start.weight.double()
        u[t] = expert.weight.double() * z[t] + expert.bias.double()
        if fit == "first":
            u[t] = 0.5 * inputs64(suite.models[t], "body.0.up", batches) + 0.5 * u[t]
    for channel in range(12):
        power = sum(float(v[:, channel].square().mean()) for v in z.values())
        mean = sum(float(v[:, channel].mean()) for v in z.values())
        strength = 0.4 * len(z) if unit == "mean_diag" else 0.4
        pull = torch.tensor([strength * (power / len(z) if unit == "mean_diag" else 1.0), strength], dtype=torch.float64)
        left = torch.tensor([[power, mean], [mean, len(z)]], dtype=torch.float64) + torch.diag(pull)
        wanted = [sum((z[t][:, channel] * u[t][:, channel]).mean() for t in z), sum(u[t][:, channel].mean() for t in z)]
        point = [1.7 * getattr(merged, p)[channel] - 0.7 * getattr(origin, p)[channel] for p in ("weight", "bias")]
        solution = torch.linalg.solve(left, torch.stack(wanted) + pull * torch.stack(point).double())
        got = torch.stack([norm.weight[channel], norm.bias[channel]]).double()
        torch.testing.assert_close(got, solution, atol=1e-4, rtol=0)


def test_joint_norms_are_not_seen_by_the_inputs_of_their_layers(suite, base):
    """The first group's weights are the same with and without; those behind it see the fitted norm."""
    with_norms, without = (
        quantized(suite, Epmq(bits=16, fit_norms=fit, norm_fit="joint"))[0].state_dict() for fit in (True, False)
    )
    assert not torch.equal(with_norms["body.0.norm.weight"], without["body.0.norm.weight"])
    for name in ("body.0.gate.weight", "body.0.up.weight"):
        assert torch.equal(with_norms[name], without[name])
    assert not torch.equal(with_norms["body.0.down.weight"], without["body.0.down.weight"])


def test_a_blend_of_one_is_the_merged_model_bit_for_bit(suite, base):
    plain, blended = (quantized(suite, Epmq(fit_bias=True, fit_norms=True), b)[1] for b in (None, base))
    assert all(torch.equal(plain.tensors[n], t) for n, t in blended.tensors.items())


def test_the_base_is_needed_where_the_blend_is_another(suite):
    assert not Epmq().uses_base
    assert Epmq(rho=0.5).uses_base
    assert not any(QUANTIZERS.get(name)().uses_base for name in QUANTIZERS.names())
    with pytest.raises(DataError, match="base"):
        quantized(suite, Epmq(rho=0.5))
