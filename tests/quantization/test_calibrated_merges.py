"""Merges with unlabelled samples: known answers, and the published equations in float64 on a model that is no CLIP."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.errors import DataError
from pmqbench.families.base import Group
from pmqbench.merging.base import MERGERS, CalibratedMerger
from pmqbench.merging.engine import merge
from pmqbench.quantization.base import UNROUNDED
from pmqbench.quantization.calibrate import Expert, quantize_model
from pmqbench.quantization.moments import Pool, TaskMoments, Teacher
from pmqbench.quantization.problem import Problem
from tests.quantization import blocks64
from tests.quantization.toy import layers

CALIBRATED = [name for name in MERGERS.names() if MERGERS.get(name).calibrated]


@pytest.fixture(scope="module")
def base(suite, tmp_path_factory):
    """The base: the merged model of the suite, moved."""
    torch.manual_seed(11)
    model = copy.deepcopy(suite.merged)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_checkpoint(path, model.state_dict())
    return model, Expert("base", Checkpoint(path, label="base"), lambda: copy.deepcopy(model))


def merged(suite, base, method, calibration=None, experts=None):
    """What the workflow does: the start, then the layer loop on its blocks."""
    model, origin = copy.deepcopy(base[0]), base[1]
    experts = experts or suite.experts
    linear = [f"{layer}.weight" for layer in layers(model)]
    model.load_state_dict(merge(method.first(), origin.weights, [expert.weights for expert in experts.values()], linear))
    return quantize_model(model, method.solver(), calibration or suite.calibration, experts, base=origin).tensors


REFERENCES = {
    "regmean": lambda b, e, d: blocks64.regmean(e, d, 0.95, on_merged=False),
    "regmean_pp": lambda b, e, d: blocks64.regmean(e, d, 0.95, on_merged=True),
    "lot": blocks64.lot,
    "featcal": lambda b, e, d: blocks64.featcal(b, started(b, e), e, d, 0.05, 2.2, 0.25),
}


def started(base, experts):
    """Task Arithmetic 0.3."""
    return {name: base[name] + 0.3 * sum(expert[name] - base[name] for expert in experts.values()) for name in base}


@pytest.mark.parametrize("name", CALIBRATED)
def test_against_float64(suite, base, name):
    expected = REFERENCES[name](
        blocks64.arrays(base[0]), {t: blocks64.arrays(model) for t, model in suite.models.items()}, suite.calibration
    )
    got = merged(suite, base, MERGERS.get(name)())
    worst = {tensor: float(np.abs(value.double().numpy() - expected[tensor]).max()) for tensor, value in got.items()}
    print(f"{name}: largest difference {max(worst.values()):.1e}")
    assert max(worst.values()) < 2e-5, worst


def test_featcals_other_options_against_float64(suite, base):
    arrays = blocks64.arrays(base[0]), {t: blocks64.arrays(model) for t, model in suite.models.items()}
    start = {n: arrays[0][n] + 0.5 * sum(e[n] - arrays[0][n] for e in arrays[1].values()) for n in arrays[0]}
    expected = blocks64.featcal(arrays[0], start, arrays[1], suite.calibration, 0.7, 1.0, 1.0)
    got = merged(suite, base, MERGERS.get("featcal")(start_scaling=0.5, anchor=0.7, rho=1.0, alpha=1.0))
    for tensor, value in got.items():
        assert np.abs(value.double().numpy() - expected[tensor]).max() < 2e-5, tensor


@pytest.mark.parametrize("name", CALIBRATED)
def test_of_equal_experts_nothing_is_left_to_do(make_suite, base, name):
    """Experts and base all the same: whatever a method solves for is that model."""
    suite = make_suite(spread=0.0)
    model = suite.merged
    origin = Expert("base", suite.experts["one"].weights, lambda: model)
    got = merged(suite, (model, origin), MERGERS.get(name)())
    for tensor, value in model.state_dict().items():
        torch.testing.assert_close(got[tensor], value, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["regmean", "regmean_pp"])
def test_of_one_expert_regmean_is_the_expert(suite, base, name):
    one = {"one": suite.experts["one"]}
    got = merged(suite, base, MERGERS.get(name)(), {"one": suite.calibration["one"]}, one)
    for tensor, value in suite.models["one"].state_dict().items():
        torch.testing.assert_close(got[tensor], value, atol=2e-5, rtol=0)


# Two inputs, one output; what a task's tokens show of the inputs, and the experts' weights.
HANDS = {"a": ([[1.0, 1.0]], [[1.0, 2.0]]), "b": ([[1.0, 0.0]], [[3.0, 4.0]])}


def by_hand(method, tasks, start, base=None, biases=None, own=None):
    """What a solver makes of one layer (out, in) with weights `start`, the tasks' tokens and experts given."""
    layer = nn.Linear(len(start[0]), len(start), bias=biases is not None).requires_grad_(False)
    layer.weight.copy_(torch.tensor(start))
    sampling = method.sampling()
    pool = Pool(layer.weight.clone(), sampling.task_weight)
    for task, (x, weight) in tasks.items():
        y = None if own is None else torch.tensor(own[task])
        moments = TaskMoments(len(start[0]), torch.device("cpu"), 1, cross=y is not None)
        moments.add(torch.tensor(x), None, y, sampling.teacher_share)
        bias = None if biases is None else torch.tensor(biases[task])
        pool.add(task, pool.share(moments.finish(task, sampling.off_diagonal), Teacher(torch.tensor(weight), bias), task))
    if biases is not None:
        layer.bias.copy_(torch.tensor(biases["start"]))
    problem = Problem(Group(("l",)), ("l",), (layer,), "l", layer.weight.clone(), torch.ones(len(start), dtype=torch.bool))
    problem.moments = pool.moments()
    if base is not None:
        problem.base = Teacher(torch.tensor(base), None if biases is None else torch.tensor(biases["base"]))
    return method.solve(problem)


def test_regmean_by_hand():
    """G_a = [[1, .5], [.5, 1]], G_b = diag(1, 0): (W_a G_a + W_b G_b) (G_a + G_b)^-1 = [5, 2.5] [[2, .5], [.5, 1]]^-1."""
    solved = by_hand(MERGERS.get("regmean")(off_diagonal=0.5).solver(), HANDS, [[2.0, 3.0]])
    assert solved.weight.tolist() == [pytest.approx([15 / 7, 10 / 7])]


def test_without_shrinking_regmean_keeps_the_mean_where_no_sample_shows_it():
    """Both tasks show the first input alone: its column is the mean weighed by power, (1 + 4 * 3) / 5, the other stays."""
    tasks = {"a": ([[1.0, 0.0]], [[1.0, 2.0]]), "b": ([[2.0, 0.0]], [[3.0, 4.0]])}
    solved = by_hand(MERGERS.get("regmean")(off_diagonal=1.0).solver(), tasks, [[2.0, 3.0]])
    assert solved.weight.tolist() == [pytest.approx([2.6, 3.0])]


def test_lot_by_hand():
    """From the base's weights: 1 + (1 * 1 + 4 * 3) / 5, and 1 where no sample shows anything."""
    tasks = {"a": ([[1.0, 0.0]], [[2.0, 5.0]]), "b": ([[2.0, 0.0]], [[4.0, 7.0]])}
    solved = by_hand(MERGERS.get("lot")().solver(), tasks, [[1.0, 1.0]])
    assert solved.weight.tolist() == [pytest.approx([3.6, 1.0])]


def test_featcal_by_hand():
    """x = 2, y = 4, alpha = 1/2: x~ = 3, S = f = 4. W_a = 2 * 0.5 - 1 * 0 = 1, b_a = 0, lambda = 1.

    W = (6/4 * 1 + 1 * 1) / (4/4 + 1) = 1.25; b = ((1 + 1 * 3 - 1.25 * 2) / 4 + 0) / (1/4 + 1) = 0.3.
    """
    method = MERGERS.get("featcal")(anchor=1.0, rho=2.0, alpha=0.5).solver()
    biases = {"a": [1.0], "start": [0.0], "base": [0.0]}
    solved = by_hand(method, {"a": ([[2.0]], [[1.0]])}, [[0.5]], [[0.0]], biases, {"a": [[4.0]]})
    assert solved.weight.item() == pytest.approx(1.25)
    assert solved.bias.item() == pytest.approx(0.3)


@pytest.mark.parametrize("name", CALIBRATED)
def test_options_reach_the_solver(name):
    method = MERGERS.get(name)(calibration_samples=7, seed=3)
    assert isinstance(method, CalibratedMerger)
    assert method.solver().calibration_samples == 7
    assert method.solver().bits == UNROUNDED
    assert not method.first().calibrated
    assert not method.linear_in_scaling


def test_the_base_is_asked_for_where_it_is_used(suite):
    with pytest.raises(DataError, match="base"):
        quantize_model(suite.model(), MERGERS.get("featcal")().solver(), suite.calibration, suite.experts)
    assert MERGERS.get("featcal")().solver().uses_base
    assert not MERGERS.get("featcal")(rho=1.0).solver().uses_base
