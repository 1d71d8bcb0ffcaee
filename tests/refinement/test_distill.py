"""Expert distillation: what comes out, for every family; what moves; when it stops; going on after a kill."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from pmqbench.errors import DataError, NumericalError
from pmqbench.refinement import distillation, state
from pmqbench.refinement.base import REFINERS, refiner_of
from pmqbench.refinement.engine import refine
from pmqbench.refinement.methods.distill import Distill
from tests.refinement.towers import QUICK

FAMILIES = ["clip", "bert", "t5"]


def same(one, other):
    """Whether two results are equal bit for bit."""
    tensors = all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    codes = all(torch.equal(one.codes[n].codes, other.codes[n].codes) for n in one.codes)
    return tensors and codes and one.codes.keys() == other.codes.keys() and losses(one) == losses(other)


def losses(result):
    return [(point["step"], point["loss"], point["held_out"]) for point in result.curve]


@pytest.mark.parametrize("grid", [{}, {"bits": 2}, {"symmetric": True}, {"group_size": 8, "bits": 3}], ids=str)
def test_codes_give_the_weights_bit_for_bit(towers, grid):
    model, codes = towers.quantized(**grid)
    order, scales = list(model.state_dict()), {name: coded.scale.clone() for name, coded in codes.items()}
    result = towers.refined(model, codes)
    assert list(result.tensors) == order == list(model.state_dict())
    assert all(torch.equal(coded.weight(), result.tensors[f"{name}.weight"]) for name, coded in result.codes.items())
    assert all(torch.equal(tensor, result.tensors[name]) for name, tensor in model.state_dict().items())
    for name, coded in result.codes.items():
        assert (coded.bits, coded.codes.dtype) == (codes[name].bits, codes[name].codes.dtype)
        assert (coded.zero is None) if codes[name].zero is None else torch.equal(coded.zero, codes[name].zero)
        assert coded.scale.shape == scales[name].shape
        assert not torch.equal(coded.scale, scales[name])
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert [record["index"] for record in result.records] == list(range(12))
    assert {record["bits"] for record in result.records} == {grid.get("bits", 4)}
    assert {record["group_size"] for record in result.records} == {grid.get("group_size")}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [4, 2])
def test_the_default_rates_lower_the_loss_in_every_family(cases, family, bits):
    result = cases[family].distilled({"bits": bits}, steps=40)
    held_out = [point["held_out"] for point in result.curve if point["held_out"] is not None]
    training = [point["loss"] for point in result.curve if point["loss"] is not None]
    assert min(held_out) < 0.9 * held_out[0]
    assert training[-1] < 0.8 * training[0]


def test_embeddings_and_what_belongs_to_them_stay(cases):
    stay = {"clip": ("embeddings.", "pre_layrnorm."), "bert": ("embeddings.",), "t5": ("shared.", "lm_head.", "bias.weight")}
    for family, case in cases.items():
        before, result = case.quantized()[0].state_dict(), case.distilled(held_out=0)
        for name, tensor in result.tensors.items():
            kept = name.startswith(stay[family]) or name.endswith(stay[family])
            assert torch.equal(tensor, before[name]) == kept, name


def test_scales_alone_keep_the_codes(towers):
    model, codes = towers.quantized()
    kept = copy.deepcopy(codes)
    result = towers.refined(model, codes, train="scales")
    assert all(torch.equal(kept[name].codes, coded.codes) for name, coded in result.codes.items())
    assert not any(torch.equal(kept[name].scale, coded.scale) for name, coded in result.codes.items())
    assert {record["changed_codes"] for record in result.records} == {0.0}


def test_a_model_at_full_precision_stays_one(towers):
    result = towers.refined(copy.deepcopy(towers.merged), {})
    assert result.codes == {}
    assert all(record["moved"] > 0 and record["bits"] == 16 for record in result.records)
    assert losses(result)[-1][2] < losses(result)[0][2]


def test_what_the_start_beats_is_left_as_it_was(towers, caplog):
    model, codes = towers.quantized()
    before = copy.deepcopy(model.state_dict())
    result = towers.refined(model, codes, learning_rate=0.9, norm_rate=0.9)
    assert all(torch.equal(before[name], tensor) for name, tensor in result.tensors.items())
    assert "the start" in caplog.text


def test_the_step_of_least_held_out_loss_is_kept(towers):
    """The result's own held-out loss is the least of the curve, although training went on to a higher one."""
    options = {
        "learning_rate": 0.9,
        "norm_rate": 0.2,
        "steps": 24,
        "warm_up": 24,
        "evaluations": 24,
    }  # ever faster, until too fast
    result = towers.distilled(**options)
    held_out = [point["held_out"] for point in result.curve if point["held_out"] is not None]
    assert min(held_out) < 0.9 * min(held_out[0], held_out[-1])
    model = towers.quantized()[0]
    model.load_state_dict(result.tensors)
    again = towers.refined(model, result.codes, steps=1)
    assert again.curve[0]["held_out"] == pytest.approx(min(held_out), rel=1e-5)


def test_patience_ends_a_training_that_gets_worse(towers):
    result = towers.distilled(learning_rate=0.9, steps=20, evaluations=10, patience=2)
    assert result.curve[-1]["step"] == 4


def test_the_same_seed_gives_the_same_model_and_another_gives_another(towers):
    first, again, other = towers.distilled(), towers.distilled(), towers.distilled(seed=1)
    assert same(first, again)
    assert not same(first, other)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kill_at", [1, 7])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(towers, tmp_path, monkeypatch, kill_at):
    file, step, steps = tmp_path / "state.pt", distillation.Training.descend, []
    whole = towers.distilled()
    monkeypatch.setattr(state, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(distillation.Training, "descend", lambda self: step(self) if self.step < kill_at else kill())
    with pytest.raises(KilledError):
        towers.distilled(state=file)
    assert file.exists()

    def descend(self):
        steps.append(self.step)
        step(self)

    monkeypatch.setattr(distillation.Training, "descend", descend)
    resumed = towers.distilled(state=file)
    assert steps == list(range(kill_at, QUICK["steps"]))
    assert same(whole, resumed)
    assert not file.exists()


def kill():
    raise KilledError


@pytest.mark.parametrize("content", ["foreign", "damaged"])
def test_a_foreign_or_damaged_state_is_ignored(towers, tmp_path, caplog, content):
    caplog.set_level("INFO")
    file = tmp_path / "state.pt"
    if content == "damaged":
        file.write_bytes(b"no state")
    else:
        torch.save({"identity": "another run", "content": {}}, file)
    assert same(towers.distilled(), towers.distilled(state=file))
    assert "starting from the beginning" in caplog.text


def test_recomputing_activations_changes_nothing(towers):
    assert same(towers.distilled(), towers.distilled(checkpointing=True))


def test_bfloat16_trains_too_with_latent_weights_in_float32(towers):
    plain, half = towers.distilled(), towers.distilled(forward_precision="bfloat16")
    assert {tensor.dtype for tensor in half.tensors.values()} == {torch.float32}
    assert losses(half)[-1][2] == pytest.approx(losses(plain)[-1][2], rel=0.1)
    assert not same(plain, half)


def test_a_diverging_loss_is_an_error_that_says_what_to_lower(towers, monkeypatch):
    monkeypatch.setattr(distillation.Lesson, "loss", lambda self, found, index: found[-1][0].sum() * float("nan"))
    with pytest.raises(NumericalError, match="learning_rate"):
        towers.distilled()


def test_what_cannot_be_refined_is_refused_before_work(towers):
    def attempt(calibration=towers.calibration, experts=towers.experts, scale=1.0):
        model, codes = towers.quantized()
        model.encoder.layers[0].mlp.fc1.weight.data *= scale
        refine(model, codes, Distill(), calibration, experts, seed=0, state=None, identity="")

    with pytest.raises(DataError, match="no calibration task"):
        attempt(calibration={})
    with pytest.raises(DataError, match="no expert for b"):
        attempt(experts={"a": towers.experts["a"]})
    with pytest.raises(DataError, match="task a: there are fewer than two"):
        attempt(calibration=towers.calibration | {"a": [towers.calibration["a"][0][:1]]})
    with pytest.raises(DataError, match=r"fc1.* not those of its weight"):
        attempt(scale=2.0)


def test_options_have_descriptions_and_defaults_and_are_checked():
    page = (Path(__file__).parents[2] / "docs" / "refinement.md").read_text()
    for name in REFINERS.names():
        assert f"## `{name}`" in page
        for option, value in REFINERS.schema(name)["properties"].items():
            assert value.get("description"), option
            assert "default" in value, option
            assert f"`{option}`" in page, option
    assert refiner_of({"method": "distill", "options": {"steps": 7}}) == Distill(steps=7)
    for wrong in ({"train": "codes"}, {"steps": 0}, {"learning_rate": -1}, {"held_out": 0.6}, {"calibration_samples": 1}):
        with pytest.raises(ValidationError):
            TypeAdapter(Distill).validate_python(wrong)


def test_methods_are_known_without_torch():
    code = (
        "import sys; from pmqbench.refinement.base import REFINERS as r;"
        "[r.schema(name) for name in r.names()]; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
