"""The layer loop on a model that is no CLIP: what it collects, in which order, what it refuses, and what comes out."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from pmqbench.errors import ConfigError, DataError, NumericalError
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.methods.awq import Awq
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.qep import Qep
from pmqbench.quantization.methods.rtn import Rtn
from pmqbench.quantization.streams import computing_in
from tests.quantization.toy import changed, close, layers, reference, run

METHODS = {
    "rtn": Rtn(),
    "gptq": Gptq(),
    "gptq-groups": Gptq(bits=3, group_size=4, symmetric=True, act_order=True, range_search="mse"),
    "awq": Awq(bits=3, group_size=4),
    "qep": Qep(bits=3),
    "epmq": Epmq(),
    "epmq-expert": Epmq(target_inputs="expert", fit_bias=True, fit_norms=True),
}


@pytest.mark.parametrize("name", METHODS)
def test_result_is_whole(suite, name):
    method = METHODS[name]
    model, result = run(suite, method)
    assert result.tensors.keys() == model.state_dict().keys()
    assert [record["layer"] for record in result.records] == layers(model)
    assert [record["index"] for record in result.records] == list(range(6))
    json.dumps(result.records, allow_nan=False)
    for layer in layers(model):
        assert torch.equal(result.codes[layer].weight(), result.tensors[f"{layer}.weight"])
        assert result.codes[layer].bits == method.bits
        assert not torch.equal(result.tensors[f"{layer}.weight"], suite.merged.get_submodule(layer).weight)
    for tensor, kept in ((result.tensors["stem.weight"], suite.merged.stem.weight), (model.stem.bias, suite.merged.stem.bias)):
        assert torch.equal(tensor, kept)
    again = run(suite, method)[1]
    assert all(torch.equal(again.tensors[n], t) for n, t in result.tensors.items())


def test_rtn_sees_no_data(suite):
    result = quantize_model(suite.model(), Rtn(), {}, {})
    for record in result.records:
        assert record["quantization"] is record["merging"] is record["objective"] is record["condition"] is None
        merged = suite.merged.get_submodule(record["layer"]).weight
        error = (result.tensors[record["layer"] + ".weight"] - merged).double().norm() / merged.double().norm()
        assert close(record["weight_error"], float(error) ** 2)


@pytest.mark.parametrize("sequential", ["group", "block", "none"])
def test_sequential_says_which_layers_are_quantized_already(suite, sequential):
    """16-bit targets equal float64 targets of inputs taken from a model put together by hand."""
    model, _ = run(suite, Epmq(bits=16, sequential=sequential))
    for layer in layers(model):
        seen = suite.model()
        done = {"group": layers(model), "block": [n for n in layers(model) if n[:6] < layer[:6]], "none": []}[sequential]
        for name in done:
            seen.get_submodule(name).weight.copy_(model.get_submodule(name).weight)
        assert torch.allclose(
            model.get_submodule(layer).weight.double(), reference(suite, seen, layer, 0.1).target(), atol=2e-5
        )


def test_recovery_of_the_unquantized_model(suite):
    """More bits come closer; 8 bits are close; a solver that sees data beats one that does not."""
    batch = torch.cat([b for batches in suite.calibration.values() for b in batches])
    truth = suite.merged(batch)

    def loss(method) -> float:
        return float((run(suite, method)[0](batch) - truth).norm() / truth.norm())

    assert loss(Rtn(bits=16)) == 0
    assert loss(Gptq(bits=8)) < 0.01
    assert loss(Gptq(bits=8)) < loss(Gptq(bits=4)) < loss(Gptq(bits=2))
    assert loss(Gptq(bits=3)) < 0.9 * loss(Rtn(bits=3))
    assert loss(Rtn(bits=3, group_size=4)) < loss(Rtn(bits=3))


def test_epmq_comes_closer_to_the_experts_than_gptq(suite):
    def distance(method) -> float:
        model, _ = run(suite, method)
        return sum(
            float((model(torch.cat(batches)) - suite.models[t](torch.cat(batches))).square().mean())
            for t, batches in suite.calibration.items()
        )

    assert distance(Epmq(bits=16)) < distance(Rtn(bits=16))
    assert distance(Epmq()) < distance(Gptq())
    assert distance(Epmq(target_inputs="expert")) < distance(Gptq())


def test_class_tokens_weigh_layers_of_one_input_apart(suite):
    """gate counts other tokens 0.01, up (same input) counts all: two targets, each with its own moments."""
    model, result = run(suite, Epmq(bits=16, last_block_tokens="class"))
    plain, _ = run(suite, Epmq(bits=16))
    assert torch.equal(model.body[0].gate.weight, plain.body[0].gate.weight)
    assert torch.allclose(model.body[1].up.weight, plain.body[1].up.weight, atol=1e-6)
    expected = reference(suite, model, "body.1.gate", 0.1)
    weights = {}
    for task, batches in suite.calibration.items():
        mask = torch.cat([b[..., -1] for b in batches]).double()
        kept = mask.flatten() > 0
        mask[:, 1:] *= 0.01
        weights[task] = mask.flatten()[kept]
    x = expected.x
    second = {t: (x[t] * weights[t][:, None]).T @ x[t] / weights[t].sum() for t in x}
    raw = {t: 1 / float(h.norm()) for t, h in second.items()}
    c = {t: raw[t] / sum(raw.values()) for t in raw}
    pooled = sum(c[t] * second[t] for t in x)
    anchor = 0.1 * float(pooled.diagonal().mean())
    right = sum(c[t] * expected.teachers[t] @ second[t] for t in x) + anchor * expected.merged
    target = right @ torch.linalg.inv(pooled + anchor * torch.eye(12, dtype=torch.float64))
    assert torch.allclose(model.body[1].gate.weight.double(), target, atol=2e-5)
    assert [record["tokens"] for record in result.records] == [3 * 24 * 5 - 36] * 6


def test_padding_never_enters(suite):
    poisoned = {}
    for task, batches in suite.calibration.items():
        poisoned[task] = [b.clone() for b in batches]
        for batch in poisoned[task]:
            batch[..., :-1][batch[..., -1] == 0] = 1e4
    for method in (Epmq(fit_norms=True, target_inputs="expert"), Gptq()):
        clean, dirty = run(suite, method)[1], run(suite, method, calibration=poisoned)[1]
        assert all(torch.equal(clean.tensors[n], dirty.tensors[n]) for n in clean.tensors)


def test_dead_inputs(suite):
    """An input that is always zero: GPTQ zeroes its column, E-PMQ leaves it to the anchor."""
    merged = suite.model()
    merged.body[0].norm.weight[3] = merged.body[0].norm.bias[3] = 0
    suite = dataclasses.replace(suite, merged=merged)
    gptq, epmq = run(suite, Gptq())[0], run(suite, Epmq(bits=16))[0]
    assert bool((gptq.body[0].up.weight[:, 3] == 0).all())
    assert torch.allclose(epmq.body[0].up.weight[:, 3], merged.body[0].up.weight[:, 3])
    dead = run(suite, Epmq(anchor=0.0))[1].records[0]
    assert dead["remedy"] is None


def test_bad_input_is_named(suite):
    with pytest.raises(DataError, match="no calibration task"):
        quantize_model(suite.model(), Gptq(), {}, {})
    for batches in ([], [torch.zeros(0, 5, 13)]):
        with pytest.raises(DataError, match=r"calibration of two.*empty"):
            run(suite, Gptq(), calibration=suite.calibration | {"two": batches})
    with pytest.raises(DataError, match="no expert for three"):
        run(suite, Epmq(), experts={t: e for t, e in suite.experts.items() if t != "three"})
    with pytest.raises(ConfigError, match=r"5 does not divide.*body\.0\.gate \(12 inputs\)"):
        run(suite, Gptq(group_size=5))


def test_nan_is_named(suite):
    sick = dataclasses.replace(suite, merged=suite.model())
    sick.merged.body[1].up.weight[0, 0] = torch.nan
    for method in (Rtn(), Gptq()):
        with pytest.raises(NumericalError, match=r"body\.1\.up\.weight"):
            run(sick, method)
    batches = [b.clone() for b in suite.calibration["two"]]
    batches[0][0, 0, 0] = torch.inf
    with pytest.raises(NumericalError, match=r"task two, body\.0\.gate, body\.0\.up"):
        run(suite, Gptq(), calibration=suite.calibration | {"two": batches})


def test_foreign_and_damaged_experts_are_named(make_suite, tmp_path):
    from pmqbench.checkpoints import Checkpoint, save_checkpoint

    suite = make_suite()
    for change, message in (
        ("shape", r"expert two.*body\.0\.gate\.weight.*\(12, 12\)"),
        ("nan", r"expert two: body\.0\.gate\.weight.*NaN"),
    ):
        state = suite.models["two"].state_dict()
        state["body.0.gate.weight"] = torch.zeros(12, 12) if change == "shape" else torch.full((20, 12), torch.nan)
        path = tmp_path / f"{change}.safetensors"
        save_checkpoint(path, state)
        bad = dataclasses.replace(suite.experts["two"], weights=Checkpoint(path))
        with pytest.raises((DataError, NumericalError), match=message):
            run(suite, Epmq(), experts=suite.experts | {"two": bad})


def test_checkpoints_are_not_written_into(make_suite):
    """Tensors of a model may be views of a checkpoint's memory map: quantizing must not change what the checkpoint reads."""
    suite = make_suite()
    before = {n: t.clone() for n, t in suite.experts["one"].weights.items()}

    def build():
        model = suite.model()
        model.load_state_dict(dict(suite.experts["one"].weights.items()), assign=True)
        return model.requires_grad_(False)

    experts = {t: dataclasses.replace(suite.experts["one"], build=build) for t in suite.experts}
    for method in METHODS.values():
        quantize_model(build(), method, suite.calibration, experts)
    assert all(torch.equal(t, before[n]) for n, t in suite.experts["one"].weights.items())


def test_bfloat16_touches_forward_passes_alone(suite):
    usual = run(suite, Epmq(target_inputs="expert"))[1]
    other = run(suite, Epmq(target_inputs="expert", forward_precision="bfloat16"))[1]
    assert all(tensor.dtype == torch.float32 for tensor in other.tensors.values())
    assert 0 < changed(usual.codes, other.codes) < 0.2


def test_tf32_is_on_inside_forward_passes_alone():
    flags = torch.backends.cuda.matmul
    for before in (True, False):
        flags.allow_tf32 = before
        with computing_in("tf32", "cpu"):
            assert flags.allow_tf32
        with computing_in("float32", "cpu"):
            assert not flags.allow_tf32
        assert flags.allow_tf32 == before
