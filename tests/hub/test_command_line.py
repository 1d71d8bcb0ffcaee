"""Repositories of the hub on the command line, beside a folder."""

import json

from safetensors.torch import load_file

from pmqbench.cli import main
from tests.hub.content import base_files, expert_files


def test_base_and_experts_come_from_the_hub_or_from_here(here, tmp_path, monkeypatch):
    files, tensors = base_files()
    here.add("models", "owner/base", files)
    here.add("models", "owner/mnist", expert_files(tensors, 0))
    (tmp_path / "dtd").mkdir()
    for name, content in expert_files(tensors, 1).items():
        (tmp_path / "dtd" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    main(
        [
            "merge",
            "owner/base",
            "--experts",
            "owner/mnist",
            "dtd",
            "--method",
            "simple_average",
            "--threads",
            "1",
            "--out",
            "merged",
        ]
    )
    merged = load_file(tmp_path / "merged/model.safetensors")
    name = next(name for name in merged if name.endswith("layers.0.mlp.fc1.weight"))
    experts = [load_file(tmp_path / "dtd/model.safetensors")]
    (cached,) = (tmp_path / "hf/hub/models--owner--mnist/snapshots").glob("*/model.safetensors")
    experts.append(load_file(cached))
    bare = name.removeprefix("vision_model.")
    parts = [next(tensor for key, tensor in expert.items() if key.endswith(bare)) for expert in experts]
    assert (merged[name] - sum(parts) / 2).abs().max() < 1e-6
    recipe = json.loads((tmp_path / "merged/manifest.json").read_text())["recipe"]
    assert [expert["task"] for expert in recipe["experts"]] == ["mnist", "dtd"]
    assert recipe["family"] == "clip"
