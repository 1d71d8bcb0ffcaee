"""The sample method of docs/merging.md does what it says."""

import pytest
import torch

from pmqbench.merging.base import MERGERS
from pmqbench.merging.engine import merge
from pmqbench.options import build_options
from tests.pages import load_sample


@pytest.fixture
def method(tmp_path, monkeypatch):
    monkeypatch.setattr(MERGERS, "_classes", dict(MERGERS._classes))
    load_sample("docs/merging.md", "MERGERS.register", tmp_path)
    return build_options(MERGERS, "unanimous", {"scaling": 0.5}, "merges.mine")


def test_what_all_agree_on_is_added(method, write, random_models):
    base, experts = random_models(3)
    merged = merge(method, write("base", base), [write(f"e{i}", expert) for i, expert in enumerate(experts)])
    assert merged.keys() == base.keys()
    for name, value in merged.items():
        deltas = torch.stack([expert[name].double() - base[name].double() for expert in experts])
        agreed = torch.where((deltas > 0).all(0) | (deltas < 0).all(0), deltas.sum(0), 0)
        torch.testing.assert_close(value.double(), base[name].double() + 0.5 * agreed, rtol=1e-6, atol=1e-6)
