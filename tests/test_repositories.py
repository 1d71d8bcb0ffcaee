"""Which repositories are pinned: models and data sets, by commits of 40 hex digits alone."""

from pathlib import Path

import pytest

from pmqbench import pin
from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError
from pmqbench.repositories import repositories, unpinned

ROOT = Path(__file__).parents[1]
SHA = "0123456789abcdef0123456789abcdef01234567"
TASKS = ["mnist", "dtd"]
CONFIG = read_config(ROOT / "config" / "clip-vit-b32-ta8.yaml") | {"tasks": TASKS}
EXPERT, DATA = {"source": "hub", "id": "owner/expert_{task}"}, {"mnist": SHA, "dtd": SHA}


def suite(**changes):
    return load_suite(CONFIG | changes)


def test_a_suite_without_the_hub_has_no_repositories():
    found = repositories(load_suite(read_config(ROOT / "config" / "mini.yaml")))
    assert (found.base, found.experts, found.data) == (None, {}, {})


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "refs/convert/parquet", SHA[:39], SHA + "0", SHA.replace("a", "g")])
def test_only_a_commit_pins(revision):
    experts = EXPERT | {"revision": revision}
    at = f" at {revision}" if revision else ""
    assert unpinned(suite(experts=experts, data_revisions=DATA)) == [f"model owner/expert_{name}{at}" for name in TASKS]


def test_everything_of_the_hub_is_looked_at():
    pinned = suite(experts=EXPERT | {"revision": SHA}, data_revisions=DATA)
    assert unpinned(pinned) == []
    assert unpinned(suite(experts=EXPERT | {"revisions": {"dtd": SHA}}, data_revisions=DATA)) == ["model owner/expert_mnist"]
    assert unpinned(suite(experts=EXPERT | {"revision": SHA}, data_revisions={"dtd": SHA})) == ["dataset ylecun/mnist"]
    base = {"source": "hub", "id": "owner/base"}
    assert unpinned(suite(base=base, experts=EXPERT | {"revision": SHA}, data_revisions=DATA)) == ["model owner/base"]


def test_a_strict_suite_refuses_what_is_not_pinned():
    with pytest.raises(ConfigError, match=r"^strict: .*not pinned are model owner/expert_mnist, model owner/expert_dtd\..*pin"):
        suite(experts=EXPERT, data_revisions=DATA, strict=True)
    assert suite(experts=EXPERT | {"revision": SHA}, data_revisions=DATA, strict=True).strict


def test_a_strict_suite_can_be_pinned(monkeypatch):
    monkeypatch.setattr(pin, "resolve", lambda repo: SHA)
    pins = pin.pins(CONFIG | {"experts": EXPERT, "strict": True})
    assert pins["experts"] == {"revisions": dict.fromkeys(TASKS, SHA)}
    assert pins["data_revisions"] == dict.fromkeys(TASKS, SHA)
