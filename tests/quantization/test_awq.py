"""AWQ: the foldings change nothing but the rounding, the search takes the best candidate, clipping finds the best range."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import torch

from pmqbench.families.vision_config import VisionConfig
from pmqbench.families.vit import VisionTower
from pmqbench.quantization import awq
from pmqbench.quantization.calibrate import _collect, _problems, quantize_model
from pmqbench.quantization.grid import fit_grid
from pmqbench.quantization.methods.awq import Awq
from pmqbench.quantization.methods.rtn import Rtn
from pmqbench.quantization.run import start
from tests.quantization.toy import frozen, layers


def block_run(suite, method):
    """(run, first block, its problems with moments), as the loop makes them."""
    run = start(suite.model(), method, suite.calibration, {})
    block = run.model.blocks[0]
    run.stages = range(block.stages)
    problems = [problem for group in block.groups for problem in _problems(run, block, group)]
    _collect(run, block, problems)
    return run, block, problems


def everything(suite) -> torch.Tensor:
    return torch.cat([batch for batches in suite.calibration.values() for batch in batches])


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_folding_keeps_the_function_of_a_gated_mlp(suite):
    model = suite.model()
    for i, block in enumerate(model.blocks):
        for group in block.groups:
            width = model.get_submodule(group.layers[0]).in_features
            awq.fold(model, group, torch.exp(torch.randn(width, generator=torch.Generator().manual_seed(i))))
    assert relative(model(everything(suite)), suite.merged(everything(suite))) < 1e-5
    assert not torch.allclose(model.body[0].up.bias, suite.merged.body[0].up.bias)


def test_folding_keeps_the_function_of_a_vision_tower():
    torch.manual_seed(0)
    config = VisionConfig(32, 2, 2, 64, 8, 4, "gelu", 1e-5, (0.5,) * 3, (0.25,) * 3)
    tower = VisionTower(config)
    torch.nn.init.normal_(tower.embeddings.class_embedding)
    images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
    folded, count = copy.deepcopy(frozen(tower)), 0
    for group in (group for block in folded.blocks for group in block.groups):
        if group.norm or group.producer:
            width = folded.get_submodule(group.layers[0]).in_features
            awq.fold(folded, group, torch.exp(torch.randn(width)))
            count += 1
    assert count == 6  # q, k, v | out | fc1 of two blocks; a GELU stands before fc2
    assert relative(folded(images), tower(images)) < 1e-5


def test_search_and_folding_leave_the_unrounded_function_alone(suite):
    run, block, problems = block_run(suite, method := Awq(bits=3))
    method.rescale(run, block, problems)
    assert all(problem.in_scale is not None for problem in problems)
    assert relative(run.model(everything(suite)), suite.merged(everything(suite))) < 1e-5
    for problem in problems:
        assert torch.allclose(problem.unfolded(problem.weight), problem.merged, rtol=1e-5)


def test_search_takes_the_best_of_its_candidates(suite):
    """Every candidate's loss, from the definition: block output with the group's layers rounded."""
    method = Awq(bits=2, search_samples=6)
    run, block, problems = block_run(suite, method)
    problem = problems[0]
    found = awq.search_scale(run, method, block, [problem])
    x = problem.moments.absolute.double()
    grouped = problem.weight.double().abs()
    normal = (grouped / grouped.amax(1, keepdim=True)).mean(0)

    def loss(scale: torch.Tensor) -> float:
        model, total = suite.model(), 0.0
        weight = problem.weight * scale
        grid = fit_grid(weight, 2)
        rounded = (grid.decode(grid.encode(weight)) / scale).split(20)
        model.body[0].gate.weight.data, model.body[0].up.weight.data = rounded
        for batches in suite.calibration.values():
            state = model.embed(batches[0][:6])
            total += float((model.body[0](state["x"]) - suite.merged.body[0](state["x"])).double().square().sum())
        return total

    scales = [torch.ones(12)]
    for ratio in (i / 20 for i in range(20)):
        scale = (x**ratio / (normal ** (1 - ratio) + 1e-4)).float()
        scales.append(scale / (scale.max() * scale.min()).sqrt())
    losses = [loss(scale) for scale in scales]
    assert loss(found) == pytest.approx(min(losses), rel=1e-3)
    assert min(losses) < 0.9 * losses[0]


def test_weights_are_restored_by_the_search(suite):
    run, block, problems = block_run(suite, Awq(bits=2))
    awq.search_scale(run, run.method, block, problems[:1])
    assert all(torch.equal(p, q) for p, q in zip(run.model.parameters(), suite.merged.parameters(), strict=True))


def test_clipping_takes_the_best_range_except_for_score_layers(suite):
    _, _, problems = block_run(suite, method := Awq(bits=2, group_size=4))
    problem = problems[0]
    grid = awq.clipped_grid(method, problem)
    rounded, weight = grid.decode(grid.encode(problem.weight)).double(), problem.weight
    second, shrunk = problem.moments.second.double(), 0
    whole = fit_grid(weight, 2, 4)
    assert torch.equal(grid.scale[:20], whole.scale[:20])  # gate is a score layer
    for row, group in itertools.product(range(20, 40), range(3)):
        part = slice(4 * group, 4 * group + 4)
        losses = []
        for i in range(10):
            candidate = fit_grid(weight[row : row + 1, part], 2, None, shrinks=(1 - i / 20,))
            error = (candidate.decode(candidate.encode(weight[row : row + 1, part])) - weight[row : row + 1, part]).double()[0]
            losses.append(float(error @ second[part, part] @ error))
        error = rounded[row, part] - weight[row, part].double()
        assert float(error @ second[part, part] @ error) == pytest.approx(min(losses), rel=1e-3, abs=1e-9)
        shrunk += min(losses) < losses[0]
    assert shrunk > 10


def test_records_are_in_the_coordinates_of_the_inputs(suite):
    """The quantized model's layers compute on folded inputs; deviations are measured on the merged model's own."""
    model = suite.model()
    result = quantize_model(model, Awq(bits=3), suite.calibration, suite.experts)
    scale = suite.merged.body[0].norm.weight / model.body[0].norm.weight
    record = result.records[0]
    mask = torch.cat([b[..., -1].flatten() for bs in suite.calibration.values() for b in bs]) > 0
    x = suite.merged.body[0].norm(suite.merged.embed(everything(suite))["x"]).flatten(0, 1)[mask].double()
    final, merged = (m.body[0].gate.weight.double() for m in (model, suite.merged))
    error = x @ (final / scale.double() - merged).T
    assert record["quantization"]["absolute"] == pytest.approx(float(error.square().sum(1).mean()), rel=1e-3)
    assert record["quantization"]["relative"] == pytest.approx(
        float(error.square().sum() / (x @ merged.T).square().sum()), rel=1e-3
    )
    assert record["merging"]["one"]["merged"] < record["merging"]["one"]["scale"]


@pytest.mark.parametrize("options", [{}, {"group_size": 4}, {"symmetric": True}, {"clip": False}])
def test_awq_beats_rounding_to_nearest(suite, options):
    truth = suite.merged(everything(suite))
    plain = {key: value for key, value in options.items() if key != "clip"}

    def loss(method) -> float:
        model = suite.model()
        quantize_model(model, method, suite.calibration, {})
        return relative(model(everything(suite)), truth)

    assert loss(Awq(bits=2, **options)) < loss(Rtn(bits=2, **plain))


def test_at_sixteen_bits_nothing_changes(suite):
    result = quantize_model(model := suite.model(), Awq(bits=16), suite.calibration, {})
    assert result.codes == {}
    assert all(torch.equal(result.tensors[f"{n}.weight"], suite.merged.get_submodule(n).weight) for n in layers(model))


def test_layers_without_norm_or_producer_are_not_scaled(suite):
    model = suite.model()
    model.blocks = tuple(
        dataclasses.replace(b, groups=tuple(dataclasses.replace(g, norm=None, producer=None) for g in b.groups))
        for b in model.blocks
    )
    quantize_model(model, Awq(bits=3), suite.calibration, {})
    assert torch.equal(model.body[0].norm.weight, suite.merged.body[0].norm.weight)
    assert torch.equal(model.body[0].up.bias, suite.merged.body[0].up.bias)


def test_scales_are_searched_on_the_blocks_own_inputs(suite, monkeypatch):
    """Of the full-precision model: the first block's are the embedded samples, the second's what the first makes of them."""
    seen, outputs = {}, awq._outputs

    def spy(probe, block):
        seen.setdefault(block.name, {task: states[0]["x"].clone() for task, states in probe.states.items()})
        return outputs(probe, block)

    monkeypatch.setattr(awq, "_outputs", spy)
    method = Awq(bits=3, search_samples=4)
    quantize_model(suite.model(), method, suite.calibration, {})
    assert list(seen) == ["body.0", "body.1"]
    for task, batches in suite.calibration.items():
        state = suite.merged.embed(batches[0][:4])
        assert torch.equal(seen["body.0"][task], state["x"])
        after = suite.merged.run_block(suite.merged.blocks[0], state)["x"]
        torch.testing.assert_close(seen["body.1"][task], after, rtol=1e-4, atol=1e-5)
