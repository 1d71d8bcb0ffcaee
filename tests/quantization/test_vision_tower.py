"""The loop on CLIP's vision tower: attention, class tokens, experts whose own inputs run through their own models."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.families.vision_config import VisionConfig
from pmqbench.families.vit import VisionTower, build_tower
from pmqbench.quantization import block_reconstruction
from pmqbench.quantization.calibrate import Expert, quantize_model
from pmqbench.quantization.methods.autoround import Autoround
from pmqbench.quantization.methods.awq import Awq
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.mixed import Mixed
from pmqbench.quantization.methods.rtn import Rtn
from tests.quantization.toy import changed, close

CLASS = {"last_block_tokens": "class"}
CONFIG = VisionConfig(48, 2, 3, 96, 16, 4, "quick_gelu", 1e-5, (0.5,) * 3, (0.25,) * 3)


@dataclasses.dataclass
class Towers:
    merged: VisionTower
    experts: dict[str, Expert]
    calibration: dict[str, list[torch.Tensor]]

    def quantize(self, method, **changes):
        model = copy.deepcopy(self.merged)
        return model, quantize_model(model, method, self.calibration, self.experts, **changes)


@pytest.fixture(scope="module")
def towers(tmp_path_factory) -> Towers:
    torch.manual_seed(0)
    base = VisionTower(CONFIG).eval().requires_grad_(False)
    torch.nn.init.normal_(base.embeddings.class_embedding)
    experts, calibration, folder = {}, {}, tmp_path_factory.mktemp("towers")
    for i, task in enumerate(("a", "b")):
        state = {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in base.state_dict().items()}
        save_checkpoint(folder / task, state)
        weights = Checkpoint(folder / task, label=f"expert {task}")
        experts[task] = Expert(f"expert {task}", weights, lambda w=weights: build_tower(CONFIG, w))
        images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8) // (1 + i)
        calibration[task] = list(images.split(16))
    return Towers(base, experts, calibration)


@pytest.mark.parametrize(
    "method",
    [Gptq(), Epmq(), Epmq(target_inputs="expert"), Awq(), Mixed(bits=3), Autoround(bits=2, steps=4, options=CLASS)],
    ids=["gptq", "epmq", "expert", "awq", "mixed", "autoround"],
)
def test_codes_reproduce_the_towers_weights(towers, method):
    model, result = towers.quantize(method)
    assert result.tensors.keys() == towers.merged.state_dict().keys()
    assert list(result.codes) == list(CONFIG.linear_shapes())
    assert all(torch.equal(codes.weight(), result.tensors[f"{layer}.weight"]) for layer, codes in result.codes.items())
    untouched = [name for name in result.tensors if not name.startswith("encoder")]
    assert all(torch.equal(result.tensors[name], towers.merged.state_dict()[name]) for name in untouched)
    rebuilt = build_tower_of(result.tensors)
    images = towers.calibration["a"][0]
    assert torch.equal(rebuilt(images), model(images))


def build_tower_of(tensors):
    tower = VisionTower(CONFIG).eval()
    tower.load_state_dict(tensors)
    return tower


def test_gptq_codes_stay_near_nearest(towers):
    """Attention's codes, whose inputs are little correlated, are at least 95 % within one step of RTN's, and not all equal."""
    gptq, rtn = towers.quantize(Gptq())[1].codes, towers.quantize(Rtn())[1].codes
    steps = torch.cat([(gptq[n].codes.int() - rtn[n].codes.int()).abs().flatten() for n in gptq])
    assert float((steps <= 1).double().mean()) >= 0.95
    assert int(steps.sum()) > 0


@pytest.mark.parametrize("method", [Gptq(), Epmq()], ids=["gptq", "epmq"])
def test_q_k_v_stacked_are_q_k_v_alone(towers, method):
    """Invariant 4 on attention."""
    apart = copy.deepcopy(towers.merged)
    apart.blocks = tuple(
        dataclasses.replace(b, groups=tuple(dataclasses.replace(g, layers=(n,)) for g in b.groups for n in g.layers))
        for b in apart.blocks
    )
    alone = quantize_model(apart, method, towers.calibration, towers.experts)
    stacked = towers.quantize(method)[1]
    assert changed(alone.codes, stacked.codes) < 5e-4
    for a, b in zip(alone.records, stacked.records, strict=True):
        assert close(a["objective"]["final"], b["objective"]["final"], 1e-4)


def test_class_tokens_only_matter_in_the_last_block(towers):
    plain, classes = towers.quantize(Epmq(bits=16))[1], towers.quantize(Epmq(bits=16, last_block_tokens="class"))[1]
    last = "encoder.layers.1"
    same = {n: torch.equal(plain.tensors[f"{n}.weight"], classes.tensors[f"{n}.weight"]) for n in CONFIG.linear_shapes()}
    assert all(same[n] for n in same if not n.startswith(last))
    assert not any(same[f"{last}.{n}"] for n in ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2"))
    for name in ("k_proj", "v_proj"):
        a, b = (r.tensors[f"{last}.self_attn.{name}.weight"] for r in (plain, classes))
        assert torch.allclose(a, b, atol=1e-5)


def test_expert_inputs_are_those_of_the_expert(towers):
    """With one task, expert inputs bring the 16-bit model closer to the expert than student inputs do."""
    one = dataclasses.replace(towers, calibration={"a": towers.calibration["a"]})
    expert = towers.experts["a"].build()
    images = torch.cat(one.calibration["a"])
    error = {}
    for inputs in ("student", "expert"):
        model, _ = one.quantize(Epmq(bits=16, anchor=1e-3, target_inputs=inputs))
        error[inputs] = float((model(images) - expert(images)).norm() / expert(images).norm())
    assert error["expert"] < 0.9 * error["student"]


@pytest.mark.parametrize("options", [{}, {"target_inputs": "expert"}], ids=["student", "expert"])
def test_recomputing_instead_of_keeping_changes_no_code(towers, options, monkeypatch):
    kept = towers.quantize(Epmq(**options))[1]
    monkeypatch.setattr("pmqbench.quantization.calibrate.KEPT_BYTES", 0)
    recomputed = towers.quantize(Epmq(**options))[1]
    assert all(torch.equal(kept.codes[name].codes, recomputed.codes[name].codes) for name in kept.codes)


def test_block_reconstruction_looks_at_what_reaches_the_output(towers, monkeypatch):
    """In the last block patch tokens weigh 0.01 of the class token; in the others all weigh alike."""
    ratios = []

    def noted(data):
        _, _, weights = data._piece("a", 0, [0])
        ratios.append(float(weights[0, 1] / weights[0, 0]))
        return 0.0

    monkeypatch.setattr(block_reconstruction._Data, "held_out_loss", noted)
    towers.quantize(Autoround(bits=2, steps=1))
    assert ratios == pytest.approx([1.0, 1.0, 0.01, 0.01])  # two blocks, each before and after its step
