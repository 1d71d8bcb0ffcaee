"""Fixtures: a merged model that is no CLIP, its experts and their calibration data."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pmqbench.quantization import moments
from tests.quantization import toy
from tests.quantization.toy import Suite


@pytest.fixture(scope="session")
def make_suite(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Suite]:
    """make_suite(samples=..., spread=...) -> Suite; spread 0 makes all experts equal the merged model."""

    def make(samples: int = 24, spread: float = 0.15) -> Suite:
        return toy.make_suite(tmp_path_factory.mktemp("experts"), samples, spread)

    return make


@pytest.fixture(autouse=True)
def all_tokens_in_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deviations per task are then exact, and can be compared with float64."""
    monkeypatch.setattr(moments, "SAMPLE_TOKENS", 10_000)


@pytest.fixture(scope="session")
def suite(make_suite: Callable[..., Suite]) -> Suite:
    """The usual suite: 24 samples of 5 tokens a task, half of them with one padding token."""
    return make_suite()
