"""Mixed bits: the knapsack against all choices, costs against float64, and what the budget leaves of the loop's rules."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch

from pmqbench.distributed import ALONE
from pmqbench.errors import ConfigError
from pmqbench.options import build_options
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.quantization.bit_allocation import LayerCosts, Survey, allocate
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.mixed import Mixed
from tests.quantization.toy import Suite, layers, reference, run

WIDTHS = (2, 3, 4, 8)


def costs_of(sizes, table):
    parts = [dict(zip(WIDTHS, row, strict=True)) for row in table]
    return [LayerCosts((f"l{i}",), size, part, 1.0) for i, (size, part) in enumerate(zip(sizes, parts, strict=True))]


def test_the_choice_by_hand():
    """Two layers of 10 weights, 60 bits: 2 and 4 bits cost 5 + 1, 3 and 3 cost 4 + 4, 4 and 2 cost 3 + 9."""
    costs = costs_of([10, 10], [[5.0, 4.0, 3.0, 0.0], [9.0, 4.0, 1.0, 0.0]])
    assert allocate(costs, 3) == {"l0": 2, "l1": 4}
    assert allocate(costs, 2) == {"l0": 2, "l1": 2}
    assert allocate(costs, 8) == {"l0": 8, "l1": 8}


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_the_best_of_all(seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 50, (6,), generator=generator).tolist()
    table = torch.rand(6, 4, generator=generator).sort(1, descending=bool(seed % 3)).values.tolist()  # costs may also rise
    costs, budget = costs_of(sizes, table), (2, 3, 4)[seed % 3]

    def loss(widths):
        return sum(item.relative[width] for item, width in zip(costs, widths, strict=True))

    def bits(widths):
        return sum(size * width for size, width in zip(sizes, widths, strict=True))

    best = min(loss(widths) for widths in product(WIDTHS, repeat=6) if bits(widths) <= budget * sum(sizes))
    chosen = tuple(allocate(costs, budget).values())
    assert bits(chosen) <= budget * sum(sizes)
    assert loss(chosen) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("inner", [Gptq(sequential="block"), Epmq(sequential="block")], ids=["gptq", "epmq"])
def test_costs_against_float64(suite, inner):
    """c by hand at every width of the first layer; D by two whole forward passes of double models."""
    survey = Survey(inner=inner, widths=WIDTHS, probe_width=3, probe_samples=4)
    unrounded, _ = run(suite, survey)
    sizes = {name: prod(suite.merged.get_submodule(name).weight.shape) for name in layers(suite.merged)}
    assert [item.size for item in survey.costs] == [sum(sizes[name] for name in item.names) for item in survey.costs]
    assert [name for item in survey.costs for name in item.names] == layers(suite.merged)
    first = survey.costs[0]
    rows = [reference(suite, suite.merged, name, *known(inner)) for name in first.names]
    alone = {}
    for width in WIDTHS:
        rounded, _ = run(suite, type(inner)(bits=width, sequential="block"))
        weights = [rounded.get_submodule(name).weight.double() for name in first.names]
        targets = [part.target() if isinstance(inner, Epmq) else part.merged for part in rows]
        lost = sum(float(((q - w) @ part.damped * (q - w)).sum()) for q, w, part in zip(weights, targets, rows, strict=True))
        assert first.relative[width] == pytest.approx(
            lost / sum(float((part.merged @ part.pooled * part.merged).sum()) for part in rows), rel=1e-4
        )
        alone[width] = weights
    one = suite.model().double()
    for name in layers(one)[:3]:  # the first block's targets; the second block is as merged still
        one.get_submodule(name).weight.data = unrounded.get_submodule(name).weight.double()
    plain = {task: one(batches[0][:4]) for task, batches in suite.calibration.items()}
    for name, weight in zip(first.names, alone[3], strict=True):
        one.get_submodule(name).weight.data = weight
    change = [
        float((one(batches[0][:4]) - plain[task]).square().sum() / plain[task].square().sum())
        for task, batches in suite.calibration.items()
    ]
    assert first.sensitivity * first.relative[3] == pytest.approx(sum(change) / len(change), rel=1e-4)


def known(inner):
    """Anchor, share and task weights of a reference of `inner`'s layers."""
    return (inner.anchor, 0.0, "frobenius") if isinstance(inner, Epmq) else (inner.damping, 0.0, "tokens")


@pytest.fixture
def uneven(suite):
    """A merged model whose first block hardly matters: a twentieth of what it adds is left."""
    merged = suite.model()
    merged.body[0].down.weight.data = merged.body[0].down.weight / 20
    return Suite(merged, suite.models, suite.experts, suite.calibration)


def test_records_tell_the_true_bits_and_keep_the_budget(uneven):
    method = Mixed(bits=3, of="epmq", options={"anchor": 10}, calibration_samples=24)
    model, result = run(uneven, method)
    sizes = {record["layer"]: prod(record["shape"]) for record in result.records}
    bits = {record["layer"]: record["bits"] for record in result.records}
    assert bits == {layer: coded.bits for layer, coded in result.codes.items()}
    assert sum(sizes[name] * bits[name] for name in sizes) <= 3 * sum(sizes.values())
    assert len(set(bits.values())) > 1
    for name, coded in result.codes.items():
        assert torch.equal(coded.weight(), model.get_submodule(name).weight)


def test_one_width_is_the_method_itself(suite):
    _, mixed = run(suite, Mixed(bits=3, widths=(3,)))
    _, plain = run(suite, Gptq(bits=3))
    assert all(torch.equal(mixed.codes[name].codes, plain.codes[name].codes) for name in plain.codes)
    drop = ("seconds", "peak_memory_mb")
    for one, other in zip(mixed.records, plain.records, strict=True):
        assert {k: v for k, v in one.items() if k not in drop} == {k: v for k, v in other.items() if k not in drop}


def test_unrounded_is_the_target_of_the_method(suite):
    _, mixed = run(suite, Mixed(bits=16, of="epmq"))
    _, plain = run(suite, Epmq(bits=16))
    assert all(torch.equal(mixed.tensors[name], plain.tensors[name]) for name in plain.tensors)


def test_the_survey_leaves_the_model_alone(suite):
    model = suite.model()
    Mixed(bits=3).prepare(model, suite.calibration, suite.experts, None, ALONE)
    assert all(torch.equal(value, suite.merged.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_method_that_sees_no_data_can_be_mixed(uneven):
    _, result = run(uneven, Mixed(bits=4, of="rtn"), experts={})
    assert len({coded.bits for coded in result.codes.values()}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"dampening": 1}}, r"quantizers\.m\.options\.dampening: unknown key"),
        ({"options": {"damping": -1}}, r"quantizers\.m\.options\.damping: must be at least 0"),
        ({"options": {"bits": 3}}, r'quantizers\.m\.options\.bits: "bits" is an option of the method on top'),
        ({"bits": 2, "widths": [3, 4]}, r"quantizers\.m\.widths: no layer can have 3 bits or more within 2"),
    ],
)
def test_wrong_options_are_named(options, message):
    method = build_options(QUANTIZERS, "mixed", options, "quantizers.m")
    with pytest.raises(ConfigError, match=message):
        method.check("quantizers.m")


def test_experts_are_asked_for_where_the_inner_method_has_them():
    assert (Mixed(of="epmq").uses_experts, Mixed(of="gptq").uses_experts) == (True, False)


@pytest.mark.parametrize("bits", [3, 4])
def test_mixed_bits_lose_less_of_the_output_than_one_width(uneven, bits):
    """On the calibration samples themselves, all else alike."""
    batches = [batch for parts in uneven.calibration.values() for batch in parts]
    change = []
    for method in (Mixed(bits=bits, probe_samples=24), Gptq(bits=bits)):
        model, _ = run(uneven, method)
        change.append(sum(float((model(batch) - uneven.merged(batch)).square().sum()) for batch in batches))
    assert change[0] < 0.8 * change[1]
