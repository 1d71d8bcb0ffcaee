"""Models from local folders: which files are taken, what names them, and which experts two tasks share."""

import json
from types import SimpleNamespace

import pytest

from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError
from pmqbench.families.clip import Clip
from pmqbench.families.open_clip import OpenClip
from pmqbench.families.t5 import T5
from pmqbench.sources.base import shared_experts
from pmqbench.sources.hub import HubModels
from pmqbench.sources.local import LocalFolders
from pmqbench.sources.mini import MiniModels
from tests.families.clip_toy import HALF, VISION, save_open_clip, save_processor, tuned_tower, whole_clip
from tests.test_config import ROOT

SUITE = SimpleNamespace(family="clip", base_id="local-base-00000000")
DIGITS = SimpleNamespace(name="digits")


@pytest.fixture(scope="module")
def model():
    return whole_clip()[0]


def test_one_path_for_several_tasks_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    source = LocalFolders(path=str(tmp_path))
    with pytest.raises(ConfigError, match=r'experts\.path: .* is one model\. Write "\{task\}"'):
        source.check(["digits", "signs"], Clip(), "experts")
    source.check(["digits"], Clip(), "experts")
    source.check([""], Clip(), "base")


def suite_of(source, *tasks):
    return SimpleNamespace(experts=source, tasks=[SimpleNamespace(name=name) for name in tasks])


def test_links_to_one_expert_are_seen(tmp_path):
    for name in ("digits", "signs"):
        (tmp_path / name).mkdir()
    (tmp_path / "textures").symlink_to(tmp_path / "digits")
    (message,) = shared_experts(suite_of(LocalFolders(path=f"{tmp_path}/{{task}}"), "digits", "signs", "textures"))
    assert message.startswith(f"experts: tasks digits, textures have one expert, {tmp_path}/digits: ")


def test_sources_without_a_shared_expert():
    assert shared_experts(suite_of(HubModels(id="me/{task}"), "digits", "signs")) == []
    assert shared_experts(suite_of(MiniModels(), "digits", "signs")) == []
    assert len(shared_experts(suite_of(HubModels(id="me/one"), "digits", "signs"))) == 1


def test_the_config_is_that_of_the_weights(tmp_path):
    """Repositories of open_clip models hold both libraries' configs, and more that end in config.json."""
    save_open_clip(tmp_path)
    for name in ("config.json", "generation_config.json"):
        (tmp_path / name).write_text(json.dumps({"model_type": "clip", "vision_config": VISION | {"hidden_size": 64}}))
    source = LocalFolders(path=str(tmp_path))
    for family in (OpenClip(), Clip()):
        source.check([""], family, "base")
        assert family.linear_shapes(source.model_config(family))["encoder.layers.0.mlp.fc1"] == (48, 32)
        folder = tmp_path / "brought" / family.config_file
        source.fetch_base(folder, family, {}, ())
        assert family.traits(folder)["width"] == 32


def test_shards_of_transformers_come_before_open_clips_pair(model, tmp_path):
    save_open_clip(tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    save_processor(tmp_path)
    source = LocalFolders(path=str(tmp_path))
    assert source.model_config(Clip())["model_type"] == "clip"
    source.fetch_base(tmp_path / "base", Clip(), {}, ())
    assert not (tmp_path / "base/open_clip_model.safetensors").exists()


def test_side_files_beside_a_bare_file_are_taken(model, tmp_path):
    tuned_tower(model).save_pretrained(tmp_path / "tower")
    (tmp_path / "digits.safetensors").write_bytes((tmp_path / "tower/model.safetensors").read_bytes())
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_bytes((tmp_path / "tower/config.json").read_bytes())
    save_processor(tmp_path / "base")
    source = LocalFolders(path=f"{tmp_path}/{{task}}.safetensors", config=f"{tmp_path}/base/config.json")
    source.check(["digits"], Clip(), "experts")
    source.fetch_expert(tmp_path / "expert", Clip(), DIGITS, tmp_path / "base", None, None)
    assert Clip().traits(tmp_path / "expert")["mean"] == tuple(HALF)


def test_ids_follow_the_files_that_are_taken(model, tmp_path):
    tuned_tower(model).save_pretrained(tmp_path / "digits")
    source = LocalFolders(path=f"{tmp_path}/{{task}}")
    first = source.expert_id(SUITE, DIGITS)
    (tmp_path / "digits/notes.txt").write_text("nothing that a model needs")
    assert source.expert_id(SUITE, DIGITS) == first
    save_processor(tmp_path / "digits")
    assert source.expert_id(SUITE, DIGITS) != first


def test_a_t5_experts_tokenizer_is_taken_where_it_is(tmp_path):
    names = ["model.safetensors", "config.json", "tokenizer.json"]
    assert "tokenizer.json" in T5().needed(names, base=False, where="x")
    assert T5().needed(names[:2], base=False, where="x") == names[:2]


def test_a_suite_with_one_folder_for_all_tasks_is_refused(tmp_path):
    config = read_config(ROOT / "config" / "mini.yaml")
    save_open_clip(tmp_path)
    config |= {"base": {"source": "local", "path": str(tmp_path)}, "experts": {"source": "local", "path": str(tmp_path)}}
    with pytest.raises(ConfigError, match=r"experts\.path"):
        load_suite(config)
