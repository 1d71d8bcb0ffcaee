"""Merges with unlabelled samples of a vision tower, a T5 and a BERT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.families.bert import BertFamily
from pmqbench.families.t5 import T5
from pmqbench.families.vision_config import VisionConfig
from pmqbench.families.vit import VisionTower, build_tower
from pmqbench.merging.base import MERGERS
from pmqbench.merging.engine import merge
from pmqbench.quantization.calibrate import Expert, quantize_model
from tests.families import bert_toy, t5_toy

CALIBRATED = [name for name in MERGERS.names() if MERGERS.get(name).calibrated]
CONFIG = VisionConfig(48, 2, 3, 96, 16, 4, "quick_gelu", 1e-5, (0.5,) * 3, (0.25,) * 3)
TASKS = ("a", "b")


@dataclass
class Models:
    """Base and experts as the layer loop takes them, and padded batches of the tasks."""

    base: Expert
    experts: dict[str, Expert]
    calibration: dict[str, list[Any]]

    def merged(self, method, experts=None, calibration=None):
        """(start, merged model) of a method."""
        experts, model = experts or self.experts, self.base.build()
        linear = [f"{layer}.weight" for block in model.blocks for group in block.groups for layer in group.layers]
        start = merge(method.first(), self.base.weights, [expert.weights for expert in experts.values()], linear)
        model.load_state_dict(start)
        given = calibration or self.calibration
        return start, quantize_model(model, method.solver(), given, experts, base=self.base).tensors

    def model(self, tensors):
        model = self.base.build()
        model.load_state_dict(tensors)
        return model


def tower(folder):
    torch.manual_seed(0)
    states = {"base": VisionTower(CONFIG).eval().requires_grad_(False).state_dict()}
    torch.nn.init.normal_(states["base"]["embeddings.class_embedding"])
    states |= {t: {n: v + 0.05 * torch.randn_like(v) for n, v in states["base"].items()} for t in TASKS}
    images = {t: torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8) // (1 + i) for i, t in enumerate(TASKS)}
    experts = {}
    for name, state in states.items():
        save_checkpoint(folder / name, state)
        weights = Checkpoint(folder / name, label=name)
        experts[name] = Expert(name, weights, lambda w=weights: build_tower(CONFIG, w))
    return experts, {t: list(images[t].split(16)) for t in TASKS}


def text_models(family, folder, save, batches):
    for name, noise in {"base": 0.0, "a": 0.05, "b": 0.08}.items():
        save(noise, folder / name)
    names = ("base", *TASKS)
    return {n: Expert(n, family.checkpoint(folder / n, n), lambda n=n: family.build(folder / n)) for n in names}, batches


def t5(folder, kind="gated", extra=0):
    counts = {"a": [([9, 4, 7] * 4, [2, 3, 1] * 4), ([5], [2])], "b": [([12, 3] * 5, [1, 4] * 5)]}
    batches = {t: [t5_toy.batch(*c, extra=extra, seed=i) for i, c in enumerate(p)] for t, p in counts.items()}
    return text_models(T5(), folder, lambda noise, path: t5_toy.save(t5_toy.tiny_t5(kind, noise=noise), path, kind), batches)


def bert(folder, extra=0):
    lengths = {"a": [[9, 4, 7] * 4, [5]], "b": [[12, 3] * 5]}
    batches = {t: [bert_toy.batch(rows, extra, seed=i) for i, rows in enumerate(p)] for t, p in lengths.items()}
    return text_models(BertFamily(), folder, lambda noise, path: bert_toy.tiny_bert(noise=noise).save_pretrained(path), batches)


FAMILIES = {"clip": tower, "t5": t5, "bert": bert}


@pytest.fixture(scope="module", params=list(FAMILIES))
def models(request, tmp_path_factory):
    experts, calibration = FAMILIES[request.param](tmp_path_factory.mktemp(request.param))
    return Models(experts.pop("base"), experts, calibration)


@pytest.mark.parametrize("name", CALIBRATED)
def test_outputs_come_closer_to_the_experts(models, name):
    """On the samples they are solved for; biases and norms change only where the method has a formula for them."""
    start, made = models.merged(MERGERS.get(name)())
    assert made.keys() == start.keys()
    assert all(bool(tensor.isfinite().all()) for tensor in made.values())

    def distance(tensors):
        model, total = models.model(tensors), 0.0
        for task, batches in models.calibration.items():
            expert = models.experts[task].build()
            total += sum(float((model(b) - expert(b)).square().sum() / expert(b).square().sum()) for b in batches)
        return total

    assert distance(made) < distance(start)
    blocks = models.base.build().blocks
    groups = [group for block in blocks for group in block.groups]
    linear = {f"{layer}.weight" for group in groups for layer in group.layers}
    norms = {f"{group.norm}.weight" for group in groups if group.norm}
    moved = {tensor for tensor, value in made.items() if not torch.equal(value, start[tensor])}
    assert linear <= moved
    if name in ("regmean", "regmean_pp"):
        assert moved == linear
    if name == "lot":
        assert moved == linear | norms
    if name == "featcal":
        fitted = {n for n in made if n.removesuffix("bias") in {w.removesuffix("weight") for w in linear | norms}}
        assert moved == linear | norms | fitted


@pytest.mark.parametrize("name", CALIBRATED)
def test_of_equal_experts_nothing_is_left_to_do(models, name):
    same = {task: Expert(task, models.base.weights, models.base.build) for task in TASKS}
    made = models.merged(MERGERS.get(name)(), experts=same)[1]
    for tensor, value in models.base.build().state_dict().items():
        torch.testing.assert_close(made[tensor], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CALIBRATED)
@pytest.mark.parametrize("family", [t5, bert])
def test_padding_changes_nothing(family, name, tmp_path):
    made = []
    for extra in (0, 5):
        experts, calibration = family(tmp_path / str(extra), extra=extra)
        made.append(Models(experts.pop("base"), experts, calibration).merged(MERGERS.get(name)())[1])
    for tensor, value in made[0].items():
        torch.testing.assert_close(made[1][tensor], value, atol=1e-3, rtol=1e-3)
