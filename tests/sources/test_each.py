"""The source `each`: experts from several places, each checked, identified and pinned as its own source does."""

import pytest

from pmqbench.config import load_suite
from pmqbench.errors import ConfigError
from pmqbench.repositories import repositories, unpinned
from pmqbench.workflow.layout import Layout
from pmqbench.workflow.stages import Stages, code_of
from tests.families.bert_toy import tiny_bert, write_tokenizer

HUB = {"source": "hub", "id": "owner/weather", "revision": "a" * 40}


@pytest.fixture
def config(tmp_path):
    """A suite of a base and two experts, one here and one on the hub; its tasks have no data."""
    for name in ("base", "fruit"):
        tiny_bert().save_pretrained(tmp_path / name)
    write_tokenizer(tmp_path / "base", ["it"])
    fruit = {"source": "local", "path": str(tmp_path / "fruit")}
    return {
        "suite": "s",
        "family": "bert",
        "base": {"source": "local", "path": str(tmp_path / "base")},
        "experts": {"source": "each", "of": {"fruit": fruit, "weather": dict(HUB)}},
        "tasks": [{"name": name, "kind": "no_data", "source": {}} for name in ("fruit", "weather")],
        "merges": {"ta": {"method": "task_arithmetic"}},
        "quantizers": {"rtn": {"method": "rtn"}},
    }


def test_each_expert_is_what_its_own_source_makes_it(config):
    suite = load_suite(config)
    fruit, weather = (suite.expert_id(task) for task in suite.tasks)
    assert fruit.startswith("fruit-local-fruit-")
    alone = load_suite(config | {"experts": {"source": "hub", "id": "owner/{task}", "revision": "a" * 40}})
    assert weather == f"weather-{alone.expert_id(alone.tasks[1])}"
    assert suite.experts.place("weather") == alone.experts.place("weather")
    stages = Stages(Layout(suite), code_of)
    plans = [stages.expert_plan(type("W", (), {"expert": expert}), None)["source"] for expert in (fruit, weather)]
    assert plans == list(config["experts"]["of"].values())


def test_one_repository_may_be_two_experts(config):
    config["experts"]["of"]["fruit"] = dict(HUB)
    assert len(Layout(load_suite(config)).experts) == 2


def test_repositories_of_the_hub_are_known(config):
    suite = load_suite(config)
    assert {name: repo.id for name, repo in repositories(suite).experts.items()} == {"weather": "owner/weather"}
    assert unpinned(suite) == []
    del config["experts"]["of"]["weather"]["revision"]
    assert unpinned(load_suite(config)) == ["model owner/weather"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weather": None}, 'experts.of: task "weather" has no expert'),
        ({"snow": HUB}, 'experts.of: "snow" is no task'),
        ({"weather": {"source": "mini"}}, 'experts.of.weather.source: "mini" is no place of one expert'),
        ({"weather": {"source": "local", "path": "/nowhere"}}, "experts.of.weather.path: there is no folder"),
        ({"weather": {"source": "hub", "id": "no id"}}, 'experts.of.weather.id: "no id" is no id'),
        ({"weather": {"source": "hub", "id": "a/b", "ids": "a/b"}}, 'experts.of.weather.ids: unknown key "ids"'),
    ],
)
def test_what_is_missing_or_wrong_is_named(config, change, said):
    of = {name: source for name, source in (config["experts"]["of"] | change).items() if source}
    with pytest.raises(ConfigError) as raised:
        load_suite(config | {"experts": {"source": "each", "of": of}})
    assert said in str(raised.value)


def test_a_base_has_one_place(config):
    with pytest.raises(ConfigError, match="a base has one"):
        load_suite(config | {"base": config["experts"]})


def test_a_task_without_data_is_not_evaluated(config):
    with pytest.raises(ConfigError, match='task "fruit" has no data'):
        Layout(load_suite(config)).data_manifests()
