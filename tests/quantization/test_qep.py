"""QEP as published: its formula with its own damping, no correction of an MLP's last layer, then GPTQ; against float64."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from pmqbench.families.t5_config import t5_config
from pmqbench.quantization.grid import fit_grid
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.qep import Qep
from tests.families.test_t5 import FLAN_BASE
from tests.quantization.test_solvers import by_definition
from tests.quantization.test_vision_tower import CONFIG as VISION
from tests.quantization.toy import inputs64, layers, run

EYE = {width: torch.eye(width, dtype=torch.float64) for width in (12, 20)}


@dataclass(frozen=True, kw_only=True)
class Watched(Qep):
    """QEP that keeps what it rounds: layers -> target."""

    targets: dict[tuple[str, ...], Tensor] = field(default_factory=dict)

    def rounded(self, problem, target, anchor):
        self.targets[problem.names] = target.double()
        return super().rounded(problem, target, anchor)


def tokens(suite, model, layer, calibration=None):
    """Inputs of a layer (tokens, in), of all tasks' tokens, in `model` and in the merged model at full precision."""
    batches = [batch for own in (calibration or suite.calibration).values() for batch in own]
    return inputs64(model, layer, batches), inputs64(suite.merged, layer, batches)


def damped(x, damping):
    """H + damping mu I."""
    second = x.T @ x / len(x)
    return second + damping * second.diagonal().mean() * EYE[x.shape[1]]


def formula(suite, model, names, damping, correction, calibration=None):
    """W + correction * W E[(x_full - x) x^T] (H + damping mu I)^-1 of layers that share their input."""
    x, full = tokens(suite, model, names[0], calibration)
    merged = torch.cat([suite.merged.get_submodule(name).weight for name in names]).double()
    return merged + correction * merged @ ((full - x).T @ x / len(x)) @ torch.linalg.inv(damped(x, damping))


def weight(model, names):
    return torch.cat([model.get_submodule(name).weight for name in names]).double()


def test_defaults_are_the_published_ones():
    qep = Qep()
    assert (qep.correction, qep.correction_damping, qep.damping, qep.task_weight) == (0.5, 1.0, 0.01, "tokens")


@pytest.mark.parametrize("options", [{}, {"correction_damping": 0.02, "correction": 0.8}, {"damping": 0.3}])
def test_target_is_the_formula_except_for_the_last_layer_of_an_mlp(suite, options):
    method = Watched(bits=3, **options)
    model, result = run(suite, method)
    assert [name for names in method.targets for name in names] == layers(model)
    moved = {}
    for names, target in method.targets.items():
        expected = formula(suite, model, names, method.correction_damping, method.correction)
        merged = weight(suite.merged, names)
        moved[names] = float((expected - merged).norm() / merged.norm())
        if names[0].endswith("down"):
            assert torch.equal(target, merged)
        else:
            assert torch.allclose(target, expected, atol=1e-5)
    assert moved["body.0.gate", "body.0.up"] == 0  # nothing is quantized before it
    assert min(moved["body.1.gate", "body.1.up"], moved[("body.0.down",)], moved[("body.1.down",)]) > 1e-3
    assert {record["damping"] for record in result.records} == {method.damping}


def test_rounding_is_gptqs(suite):
    """With GPTQ's own damping, whatever the correction's is."""
    method = Watched(bits=3)
    model, _ = run(suite, method)
    for names, target in method.targets.items():
        x, _ = tokens(suite, model, names[0])
        grid = fit_grid(target.float(), 3)
        codes = by_definition(target.numpy(), damped(x, 0.01).numpy(), grid, list(range(x.shape[1])))
        expected = grid.decode(torch.from_numpy(codes).to(grid.code_dtype)).double()
        assert float((weight(model, names) - expected).abs().gt(1e-5).double().mean()) < 0.01


def test_without_correction_it_is_gptq(suite):
    qep, gptq = run(suite, Qep(bits=3, correction=0.0))[0], run(suite, Gptq(bits=3))[0]
    for layer in layers(qep):
        assert torch.equal(weight(qep, [layer]), weight(gptq, [layer]))


@pytest.mark.parametrize("options", [{"damping": 0.0}, {"damping": 0.0, "correction_damping": 0.0}])
def test_few_tokens_without_damping_keep_the_merged_weights_where_nothing_is_known(make_suite, options):
    """The formula adds to W_merged: what no token shows stays as it is, however H is made regular."""
    suite = make_suite(samples=1)
    one = {"one": suite.calibration["one"]}  # 5 tokens for 12 and 20 inputs
    method = Watched(bits=3, **options)
    model, result = run(suite, method, calibration=one)
    names = ("body.1.gate", "body.1.up")
    x, _ = tokens(suite, model, names[0], one)
    change = method.targets[names] - weight(suite.merged, names)
    _, _, right = torch.linalg.svd(x)
    unseen = right[len(x) :]
    assert float(change.norm()) > 1e-3
    assert float((change @ unseen.T).norm()) < 0.05 * float(change.norm())
    assert all("5 tokens" in record["remedy"] for record in result.records)
    remedy = next(record["remedy"] for record in result.records if record["layer"] == names[0])
    raised = re.search(r"correction: .* damping raised to (\S+) ", remedy)
    assert (raised is not None) == (method.correction_damping == 0)
    level = float(raised[1]) if raised else method.correction_damping
    assert torch.allclose(method.targets[names], formula(suite, model, names, level, 0.5, one), atol=1e-3)


def test_it_makes_up_for_earlier_layers(suite):
    """Its target is nearer to the full-precision model's outputs wherever layers before it are quantized."""
    records = run(suite, Qep(bits=3, correction=1.0, correction_damping=0.01))[1].records
    objectives = {record["layer"]: record["objective"] for record in records}
    assert objectives["body.1.up"]["target"] < 0.95 * objectives["body.1.up"]["merged"]
    assert objectives["body.1.down"]["target"] == objectives["body.1.down"]["merged"] > 0
    assert objectives["body.0.up"]["target"] == objectives["body.0.up"]["merged"] == 0


def test_families_say_which_layers_end_an_mlp():
    def ends(config):
        return [layer for block in config.blocks() for group in block.groups if group.mlp_output for layer in group.layers]

    assert ends(VISION) == [f"encoder.layers.{i}.mlp.fc2" for i in range(2)]
    t5 = ends(t5_config(FLAN_BASE))
    assert t5[0] == "encoder.block.0.layer.1.DenseReluDense.wo"
    assert t5[-1] == "decoder.block.11.layer.2.DenseReluDense.wo"
    assert len(t5) == 24
