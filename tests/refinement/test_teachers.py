"""What experts teach: the loss against numpy in float64, padding, T5's own answers; the samples of each step."""

import numpy as np
import pytest
import torch

from pmqbench.refinement.latent import LatentLayer
from pmqbench.refinement.methods.distill import Distill
from pmqbench.refinement.rates import optimiser_of, rate_share
from pmqbench.refinement.samples import Draws, Samples
from pmqbench.refinement.teachers import Targets, points, teach
from tests.families.t5_toy import batch


def test_a_loss_worked_by_hand():
    """Task 0: rows 0 and 4, variance 4; task 1: rows 1 and 3, variance 1. Off by 2 and by 1: (4 / 4 + 1 / 1) / 2 = 1."""
    rows = [torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [3.0]])]
    parts = [Targets.of_task(part, torch.ones(2, dtype=torch.long), torch.float32) for part in rows]
    targets = Targets.joined(parts)
    assert targets.variance.tolist() == [4.0, 1.0]
    student = torch.tensor([[[2.0]], [[2.0]], [[4.0]]])  # of samples 0, 1 and 3
    error = targets.error((student, None), torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]))
    assert error.item() == 1.0


def in_numpy(model, experts, calibration, index, weight):
    """The loss of the first `index` samples of every task, sample by sample in float64; blocks' targets as they are kept."""
    total = 0.0
    for task, batches in calibration.items():
        expert = experts[task].build()
        batches = [expert.with_own_answers(one, task) for one in batches]
        found, wanted = ([rows_by_sample(model_, one) for one in batches] for model_ in (model, expert))
        terms = []
        for place in range(len(found[0])):
            samples = [[rows for one in part for rows in one[place]] for part in (found, wanted)]
            every = np.concatenate(samples[1])
            variance = ((every - every.mean(0)) ** 2).sum(1).mean()
            student, teacher = (np.concatenate(part[:index]) for part in samples)
            if place < len(found[0]) - 1:
                teacher = torch.from_numpy(teacher).bfloat16().double().numpy()
            terms.append(((student - teacher) ** 2).sum(1).mean() / variance)
        total += (terms[-1] + weight * np.mean(terms[:-1])) / len(calibration)
    return total


def rows_by_sample(model, one):
    """Point -> real tokens' states of each sample."""
    with torch.no_grad():
        found = points(model, one, True)
    return [
        [(rows if mask is None else rows[mask[i]]).double().numpy() for i, rows in enumerate(states)] for states, mask in found
    ]


@pytest.mark.parametrize("family", ["clip", "bert", "t5"])
def test_the_loss_against_float64(cases, family):
    case, count = cases[family], 5
    lesson = teach(case.calibration, case.experts, torch.device("cpu"), 0.7, "float32")
    size = lesson.samples.counts["a"]
    index = torch.cat([torch.arange(count), torch.arange(count) + size])
    with torch.no_grad():
        loss = lesson.loss(points(case.merged, lesson.samples.take(index), True), index)
    wanted = in_numpy(case.merged, case.experts, case.calibration, count, 0.7)
    assert float(loss) == pytest.approx(wanted, rel=2e-5)


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_padding_teaches_nothing(cases, family):
    """A sample alone and beside longer ones has the same loss."""
    case = cases[family]
    lesson = teach(case.calibration, case.experts, torch.device("cpu"), 1.0, "float32")

    def loss(rows):
        index = torch.tensor(rows)
        found = points(case.merged, lesson.samples.take(index), True)
        return torch.stack(
            [
                lesson.loss([(s[i : i + 1], None if m is None else m[i : i + 1]) for s, m in found], index[i : i + 1])
                for i in range(len(rows))
            ]
        )

    together, alone = loss([0, 3, 5]), torch.cat([loss([row]) for row in (0, 3, 5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "bert", "t5"])
def test_the_last_point_is_what_the_answer_is_read_from(cases, family):
    model, one = cases[family].merged, cases[family].calibration["a"][0]
    *blocks, (features, mask) = points(model, one, True)
    answer = model(one)
    if family == "t5":
        torch.testing.assert_close(model.lm_head(features), answer)
        assert torch.equal(mask, one["decoder_attention_mask"].bool())
        assert [len(states[0]) for states, _ in blocks] == [12, 12, 5, 5, 5]  # encoder's tokens, then the decoder's
    else:
        assert torch.equal(features[:, 0], answer)
        assert mask is None


def test_the_last_block_of_a_tower_gives_its_class_token(towers):
    model, state = towers.merged, towers.merged.embed(towers.calibration["a"][0])
    state = model.run_block(model.blocks[0], state)
    class_token = model.run_last_block(state)
    torch.testing.assert_close(class_token, model.run_block(model.blocks[1], state)[:, :1])


def test_without_blocks_their_states_are_not_kept(towers):
    lesson = teach(towers.calibration, towers.experts, torch.device("cpu"), 0.0, "float32")
    (output,) = lesson.targets
    assert output.rows.shape == (48, 32)


def test_experts_equal_to_the_model_have_nothing_to_teach(towers):
    lesson = teach({"a": towers.calibration["a"]}, towers.experts, torch.device("cpu"), 1.0, "float32")
    expert, index = towers.experts["a"].build(), torch.arange(24)
    with torch.no_grad():
        loss = lesson.loss(points(expert, lesson.samples.take(index), True), index)
    assert 0 < float(loss) < 1e-3  # what bfloat16 rounds off


def test_a_t5s_own_answers_replace_what_the_decoder_read(t5s):
    """As `generate` makes them, up to the token before the end; the targets' tokens play no part."""
    expert, one = t5s.experts["a"].build(), t5s.calibration["a"][0]
    answered = expert.with_own_answers(one, "expert a")
    other = {
        **one,
        "decoder_input_ids": one["decoder_input_ids"] * 0,
        "decoder_attention_mask": one["decoder_attention_mask"] * 0 + 1,
    }
    assert all(torch.equal(answered[name], expert.with_own_answers(other, "expert a")[name]) for name in answered)
    logits = expert(answered).argmax(-1)
    for row in range(len(logits)):
        length = int(answered["decoder_attention_mask"][row].sum())
        assert torch.equal(logits[row, : length - 1], answered["decoder_input_ids"][row, 1:length])  # greedy: each is the next
        assert not answered["decoder_input_ids"][row, length:].any()


def test_answers_end_before_the_end_token(t5s, monkeypatch):
    expert, one = t5s.experts["a"].build(), batch([4, 4, 4], [1, 1, 1])
    made = torch.tensor([[0, 7, 1, 0, 0], [0, 1, 0, 0, 0], [0, 5, 6, 7, 8]])
    monkeypatch.setattr(expert, "generate", lambda *args: made)
    answered = expert.with_own_answers(one, "expert")
    assert answered["decoder_input_ids"].tolist() == [[0, 7, 0, 0], [0, 0, 0, 0], [0, 5, 6, 7]]
    assert answered["decoder_attention_mask"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


def test_batches_are_cut_to_their_longest_text():
    parts = {"a": [batch([9, 4], [2, 5])], "b": [batch([3], [1])]}
    samples = Samples.of(parts)
    taken = samples.take(torch.tensor([1, 2]))
    assert {name: tuple(part.shape) for name, part in taken.items()} == {
        "input_ids": (2, 4),
        "attention_mask": (2, 4),
        "decoder_input_ids": (2, 5),
        "decoder_attention_mask": (2, 5),
    }
    alone = samples.take(torch.tensor([2]))
    assert all(torch.equal(alone[name], part) for name, part in parts["b"][0].items())
    assert samples.task_of(torch.tensor([0, 1, 2])).tolist() == [0, 0, 1]


def test_every_sample_comes_once_a_round_and_held_out_ones_never():
    draws = Draws.of({"a": 10, "b": 20}, 0.1, 6, seed=3, tasks=2)
    assert [[part.tolist() for part in parts] for parts in draws.held_out()] == [[[0]], [[10, 11]]]
    parts = Draws.of({"a": 10, "b": 20}, 0.5, 6, seed=3, tasks=2).held_out()
    assert [[len(part) for part in task] for task in parts] == [[5], [6, 4]]  # a part is of one task, so tasks weigh alike
    assert Draws.of({"a": 10}, 0.0, 6, seed=3, tasks=1).held_out() == []
    steps = [draws.step(number) for number in range(6)]
    of_a, of_b = ([i for step in steps for i in step.tolist() if (i < 10) == first] for first in (True, False))
    assert sorted(of_a[:9]) == list(range(1, 10)) == sorted(of_a[9:])
    assert of_a[:9] != of_a[9:]
    assert sorted(of_b) == list(range(12, 30))
    assert torch.equal(draws.step(4), Draws.of({"a": 10, "b": 20}, 0.1, 6, seed=3, tasks=2).step(4))
    assert not torch.equal(draws.step(4), Draws.of({"a": 10, "b": 20}, 0.1, 6, seed=4, tasks=2).step(4))
    assert Draws.of({"a": 3, "b": 3}, 0.0, 1, seed=0, tasks=2).step(0).shape == (2,)


def test_rates_rise_then_fall_along_a_cosine():
    shares = [rate_share(step, 10, 3) for step in range(11)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[4:] == pytest.approx([0.5 * (1 + np.cos(np.pi * k / 7)) for k in range(1, 8)])


def test_a_step_is_adamws_with_rates_in_units_of_what_moves(towers):
    """The first step of AdamW moves every parameter by its rate: 0.02 RMS weights of the layer."""
    model, codes = towers.quantized()
    name = "encoder.layers.0.mlp.fc1"
    layer = LatentLayer(model.get_submodule(name), codes[name], train_weight=True)
    optimiser = optimiser_of(Distill(), model, {name: layer})
    before = layer.latent.detach().clone()
    layer.latent.grad = torch.randn(before.shape).sign() * 1e-7  # far below what AdamW's usual epsilon lets through
    optimiser.step()
    moved = ((layer.latent.detach() - before).abs().double() / before.double().square().mean().sqrt()).numpy()
    assert np.abs(moved - 0.02).max() < 1e-4
    (rate,) = (group["rate"] for group in optimiser.param_groups if group["params"][0] is layer.module.bias)
    assert rate == pytest.approx(0.003 * float(before.square().sum(1).mean().sqrt()))
