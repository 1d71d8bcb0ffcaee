"""Fixtures: a merged model that is no CLIP, its experts and their calibration data."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.quantization import moments
from pmqbench.quantization.calibrate import Expert
from tests.quantization.toy import TOKENS, WIDTH, GatedStack, Suite, frozen


@pytest.fixture(scope="session")
def make_suite(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Suite]:
    """make_suite(samples=..., spread=...) -> Suite; spread 0 makes all experts equal the merged model."""

    def make(samples: int = 24, spread: float = 0.15) -> Suite:
        folder = tmp_path_factory.mktemp("experts")
        torch.manual_seed(7)
        merged = frozen(GatedStack())
        for name, parameter in merged.named_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) * (1 if "norm" in name else 0.3))
        models, experts, calibration = {}, {}, {}
        for i, task in enumerate(("one", "two", "three")):
            model = copy.deepcopy(merged)
            for parameter in model.parameters():
                parameter.add_(spread * torch.randn_like(parameter))
            path = folder / f"{task}.safetensors"
            save_checkpoint(path, model.state_dict())
            models[task] = model
            experts[task] = Expert(f"expert {task}", Checkpoint(path, label=f"expert {task}"), lambda m=model: copy.deepcopy(m))
            batch = torch.randn(samples, TOKENS, WIDTH + 1) * (1 + i) + i
            batch[..., -1] = 1
            batch[: samples // 2, -1, -1] = 0
            calibration[task] = list(batch.split(7))
        return Suite(merged, models, experts, calibration)

    return make


@pytest.fixture(autouse=True)
def all_tokens_in_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deviations per task are then exact, and can be compared with float64."""
    monkeypatch.setattr(moments, "SAMPLE_TOKENS", 10_000)


@pytest.fixture(scope="session")
def suite(make_suite: Callable[..., Suite]) -> Suite:
    """The usual suite: 24 samples of 5 tokens a task, half of them with one padding token."""
    return make_suite()
