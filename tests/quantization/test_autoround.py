"""Block reconstruction: its loss against float64, what it keeps, and that it works for every family."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch

from pmqbench.errors import ConfigError, DataError
from pmqbench.options import build_options
from pmqbench.quantization import block_reconstruction
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.learned_rounding import LearnedRounding
from pmqbench.quantization.methods.autoround import Autoround
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from tests.quantization.toy import layers, run

STARTS = {"gptq": Gptq, "epmq": Epmq}


def losses(monkeypatch):
    """What `held_out_loss` gives from now on, block after block."""
    seen = []
    original = block_reconstruction._Data.held_out_loss

    def noted(data):
        seen.append(original(data))
        return seen[-1]

    monkeypatch.setattr(block_reconstruction._Data, "held_out_loss", noted)
    return seen


def blocks_output(model, block, batches):
    """Hidden states (n, tokens, width) and masks behind block number `block`, float64."""
    model = copy.deepcopy(model).double()
    out = []
    for batch in batches:
        state = model.embed(batch)
        for part in model.blocks[: block + 1]:
            state = model.run_block(part, state)
        out.append((state["x"].numpy(), state["mask"].numpy()))
    return np.concatenate([x for x, _ in out]), np.concatenate([mask for _, mask in out])


def by_hand(suite, model, block, rows):
    """Mean over tasks of the samples' mean over tokens of |out - expert's|^2, over the variance on the samples trained on."""
    total = []
    for task, batches in suite.calibration.items():
        (out, mask), (wanted, _) = (blocks_output(part, block, batches) for part in (model, suite.models[task]))
        held, train = rows[task]
        share = mask / mask.sum(1, keepdims=True)
        weights = share[train] / share[train].sum()
        mean = (wanted[train] * weights[..., None]).sum((0, 1))
        variance = (np.square(wanted[train]).sum(-1) * weights).sum() - np.square(mean).sum()
        total.append((np.square(out - wanted).sum(-1) * share)[held].sum(1).mean() / variance)
    return np.mean(total)


def split(suite):
    """Held-out and training samples by task, as numbers in the task's batches one after the other."""
    generator, rows = torch.Generator().manual_seed(0), {}
    for task, batches in suite.calibration.items():
        count = sum(map(len, batches))
        order = torch.randperm(count, generator=generator).tolist()
        rows[task] = order[: count // 8], order[count // 8 :]
    return rows


@pytest.mark.parametrize("of", STARTS)
def test_held_out_loss_against_float64(suite, monkeypatch, of):
    seen = losses(monkeypatch)
    model, _ = run(suite, Autoround(bits=3, of=of, steps=10))
    start, _ = run(suite, STARTS[of](bits=3, sequential="block"))
    rows = split(suite)
    assert seen[0] == pytest.approx(by_hand(suite, start, 0, rows), rel=1e-4)
    first, last = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    # Behind either block the final model is where the loss was least.
    assert min(first) == pytest.approx(by_hand(suite, model, 0, rows), rel=1e-4)
    assert min(last) == pytest.approx(by_hand(suite, model, 1, rows), rel=1e-4)


@pytest.mark.parametrize(("of", "teacher"), [("gptq", "experts"), ("rtn", "merged")])
def test_it_ends_nearer_to_the_teacher_than_it_began(suite, monkeypatch, of, teacher):
    """The second is the published method."""
    seen = losses(monkeypatch)
    run(suite, Autoround(bits=2, of=of, teacher=teacher, steps=100))
    for part in (seen[:11], seen[11:]):
        assert min(part) < 0.98 * part[0]


@pytest.mark.parametrize(("of", "options"), [("gptq", {}), ("epmq", {"target_inputs": "mix"}), ("rtn", {})])
@pytest.mark.parametrize("grid", [{}, {"symmetric": True}, {"group_size": 4}])
def test_the_result_is_codes_and_true_records(suite, of, options, grid):
    model, result = run(suite, Autoround(bits=3, of=of, options=options, steps=20, **grid))
    start, plain = run(suite, QUANTIZERS.get(of)(bits=3, **(options | grid)))
    assert list(result.codes) == layers(suite.merged)
    changed = 0
    for name, record in zip(result.codes, result.records, strict=True):
        coded = result.codes[name]
        assert torch.equal(coded.weight(), model.get_submodule(name).weight)
        assert (coded.bits, coded.scale.shape) == (3, plain.codes[name].scale.shape)
        assert (coded.zero is None) == bool(grid.get("symmetric"))
        assert (record["layer"], record["bits"]) == (name, 3)
        changed += int((coded.weight() != start.get_submodule(name).weight).sum())
    assert changed > 0
    first = result.records[0]  # of the inputs of the first block, which nothing changes
    weight = suite.merged.get_submodule(first["layer"]).weight
    if of == "gptq":
        lost = (result.codes[first["layer"]].weight() - weight).square().sum() / weight.square().sum()
        assert first["weight_error"] == pytest.approx(float(lost), rel=1e-5)


def test_where_nothing_helps_the_start_is_kept(suite, monkeypatch, caplog):
    """Also: a rounding that never moves is the start, bit for bit."""
    monkeypatch.setattr(LearnedRounding, "descend", lambda self, rate: None)
    with caplog.at_level(logging.WARNING):
        _, kept = run(suite, Autoround(bits=3, of="epmq", steps=4))
    _, plain = run(suite, Epmq(bits=3, sequential="block"))
    assert all(torch.equal(kept.tensors[name], plain.tensors[name]) for name in plain.tensors)
    assert all(torch.equal(kept.codes[name].codes, plain.codes[name].codes) for name in plain.codes)
    assert [message.split(":")[0] for message in caplog.messages if "did not lower" in message] == ["body.0", "body.1"]


def test_padding_and_batches_of_padding_never_enter(suite):
    other = {task: [batch.clone() for batch in batches] for task, batches in suite.calibration.items()}
    for batches in other.values():
        for batch in batches:
            batch[..., :-1][batch[..., -1] == 0] = 1e3
    _, one = run(suite, Autoround(bits=3, steps=20))
    _, two = run(suite, Autoround(bits=3, steps=20), calibration=other)
    assert all(torch.equal(one.codes[name].codes, two.codes[name].codes) for name in one.codes)


def test_it_repeats(suite):
    one, two = (run(suite, Autoround(bits=2, steps=10))[1] for _ in range(2))
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)


def test_unrounded_is_the_target_of_the_method(suite):
    _, made = run(suite, Autoround(bits=16, of="epmq"))
    _, plain = run(suite, Epmq(bits=16, sequential="block"))
    assert made.codes == {}
    assert all(torch.equal(made.tensors[name], plain.tensors[name]) for name in plain.tensors)


def test_samples_are_drawn_evenly_over_tasks():
    train = {"a": [("a", 0, i) for i in range(5)], "b": [("b", 0, 0)], "c": [("c", 0, i) for i in range(3)]}
    batches = block_reconstruction._batches(train, 4)
    drawn = [pick for _ in range(6) for pick in next(batches)]
    assert [pick[0] for pick in drawn[:4]] == ["a", "b", "c", "a"]
    assert {task: sum(pick[0] == task for pick in drawn) for task in train} == {"a": 8, "b": 8, "c": 8}
    assert [pick[2] for pick in drawn if pick[0] == "a"] == [0, 1, 2, 3, 4, 0, 1, 2]


def test_experts_are_needed_for_their_blocks_alone(suite):
    assert Autoround().uses_experts
    assert Autoround(of="epmq", teacher="merged").uses_experts
    assert not Autoround(teacher="merged").uses_experts
    run(suite, Autoround(teacher="merged", steps=2), experts={})
    with pytest.raises(DataError, match="no expert for one, three, two"):
        run(suite, Autoround(steps=2), experts={})


def test_one_sample_is_refused(suite):
    calibration = {task: [batches[0][:1]] for task, batches in suite.calibration.items()}
    with pytest.raises(DataError, match="a sample to train on and one to check with"):
        quantize_model(suite.model(), Autoround(), calibration, suite.experts)


def test_the_streams_order_is_not_to_choose():
    method = build_options(QUANTIZERS, "autoround", {"options": {"sequential": "group"}}, "quantizers.a")
    with pytest.raises(ConfigError, match=r'quantizers\.a\.options\.sequential: "sequential" cannot be chosen here'):
        method.check("quantizers.a")
