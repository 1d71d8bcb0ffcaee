"""Merges of many scalings from one, where that is exact."""

import numpy as np
import pytest
import torch

from pmqbench.merging import tuning
from pmqbench.merging.base import MERGERS, merger_of
from pmqbench.merging.engine import merge
from tests.merging.matrices import LINEAR

SCALED = [name for name in MERGERS.names() if "scaling" in MERGERS.schema(name).get("properties", {})]
CANDIDATES = (0.0, 0.3, 1.0, 1.7, -0.4)


@pytest.fixture
def models(write, random_matrices):
    base, experts = random_matrices(3)
    base, *experts = ({name: torch.from_numpy(value) for name, value in model.items()} for model in (base, *experts))
    base["steps"] = torch.tensor([3])
    files = [write(f"e{i}", expert | {"steps": torch.tensor([i])}) for i, expert in enumerate(experts)]
    return write("base", base), files


def recipe(name, scaling, **more):
    if name == "svc":
        name, more = "tsv_m", {"calibrate_singular_values": {"floor": 0.1}}
    return merger_of({"method": name, "options": {"scaling": scaling}} | more)


def differences(name, models, affine=False, **more):
    """By candidate, how far the merge made of one (or, `affine`, two) is from the merge itself."""
    base, experts = models
    full = merge(recipe(name, 1.0, **more), base, experts, LINEAR)
    none = {n: base.tensor(n) for n in full} if not affine else merge(recipe(name, 0.0, **more), base, experts, LINEAR)
    straight = {scaling: merge(recipe(name, scaling, **more), base, experts, LINEAR) for scaling in CANDIDATES}
    return {
        scaling: max(
            float((none[n] + scaling * (full[n].double() - none[n]) - value.double()).abs().max())
            for n, value in merged.items()
            if value.is_floating_point()
        )
        for scaling, merged in straight.items()
    }


@pytest.mark.parametrize("name", SCALED)
def test_what_a_method_says_of_its_scaling_is_true(name, models):
    """Linear exactly if it says so: one that is linear in fact would merge once a candidate for nothing."""
    linear = max(differences(name, models).values()) < 5e-6
    assert recipe(name, 0.5).linear_in_scaling == linear
    affine = max(differences(name, models, affine=True).values()) < 5e-6
    assert recipe(name, 0.5).affine_in_scaling == (affine and not linear)


def test_dare_of_ties_is_linear_too(write, models):
    base, experts = models
    merges = [merge(MERGERS.get("dare")(of="ties", scaling=s), base, experts, LINEAR) for s in (1.0, 0.25)]
    for name in LINEAR:
        origin = base.tensor(name).double()
        torch.testing.assert_close(merges[1][name].double() - origin, 0.25 * (merges[0][name] - origin), atol=1e-6, rtol=0)


def test_a_calibrated_merge_is_not_linear(models):
    more = {"calibrate_singular_values": {"floor": 0.1}}
    assert max(differences("task_arithmetic", models, **more).values()) > 1e-2
    assert not recipe("task_arithmetic", 0.5, **more).linear_in_scaling


@pytest.mark.parametrize(("name", "merges"), [("task_arithmetic", 1), ("tsv_m", 1), ("lines", 2), ("svc", len(CANDIDATES))])
def test_scaled_merges_are_those_of_each_candidate(name, merges, models, monkeypatch):
    base, experts = models
    calls = []
    monkeypatch.setattr(tuning, "merge", lambda method, *rest: calls.append(method) or merge(method, *rest))
    merged = tuning.scaled_merges(lambda scaling: recipe(name, scaling), base, experts, LINEAR)
    for scaling in CANDIDATES:
        got, wanted = merged(scaling), merge(recipe(name, scaling), base, experts, LINEAR)
        assert list(got) == list(wanted)
        for tensor, value in wanted.items():
            assert got[tensor].dtype == value.dtype
            assert np.allclose(got[tensor].numpy(), value.numpy(), atol=2e-6)
    assert len(calls) == merges


def test_half_precision_stays(write):
    base, expert = ({"w": torch.tensor([[value, 2.0]], dtype=torch.float16)} for value in (1.0, 3.0))
    merged = tuning.scaled_merges(lambda s: recipe("task_arithmetic", s), write("base", base), [write("e", expert)])
    assert merged(0.5)["w"].tolist() == [[2.0, 2.0]]
    assert merged(0.5)["w"].dtype == torch.float16
