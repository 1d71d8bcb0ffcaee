"""The command line makes what the workflow makes: the finished suite's models, to the last bit."""

import json

import pytest
from safetensors.torch import load_file

from pmqbench.cli import main


@pytest.fixture
def work(done, monkeypatch):
    monkeypatch.chdir(done.work)
    return done.work


MODELS = ("models/base", "--threads", "1", "--experts", "models/digits", "models/textures")
DATA = ("--tasks", "digits", "textures", "--batch-size", "64")


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


def test_the_commands_make_what_the_suite_has(work, tmp_path):
    ties = ["--method", "ties", "--option", "tune_scaling=[0.3, 1.0]"]
    main(["merge", *MODELS, *ties, *DATA, "--out", str(tmp_path / "merged")])
    same(tmp_path / "merged", only(work / "results/merged", "ties-*"))
    command = ["quantize", *MODELS, *DATA, "--samples", "16", "--seed", "1", "--method"]
    main([*command, "epmq", "--option", "tune={anchor: [0.1, 1.0]}", "--out", str(tmp_path / "epmq")])
    same(tmp_path / "epmq", only(work / "results/quantized", "taskarithmetic-*/epmq-*/seed-1"))
    refine = "refine={method: distill, calibration_samples: 16, steps: 4}"
    main([*command, "gptq", "--option", refine, "--out", str(tmp_path / "distilled")])
    same(tmp_path / "distilled", only(work / "results/quantized", "taskarithmetic-*/gptq-*/distill-*/seed-1"))
    evaluate = ["evaluate", str(tmp_path / "distilled"), "--base", "models/base", "--threads", "1", "--batch-size", "256"]
    main([*evaluate, "--tasks", "digits", "--out", str(tmp_path / "records")])
    records = only(work / "results/evaluations/quantized", "taskarithmetic-*/gptq-*/distill-*/seed-1")
    made, wanted = (json.loads(only(folder, "digits-*.json").read_text()) for folder in (tmp_path / "records", records))
    assert [made[key] for key in ("correct", "size_bytes")] == [wanted[key] for key in ("correct", "size_bytes")]


def same(made, wanted):
    """Equal weights, bit for bit, by equal code from an equal recipe."""
    weights, others = (load_file(folder / "open_clip_model.safetensors") for folder in (made, wanted))
    assert weights.keys() == others.keys()
    assert [name for name in weights if not weights[name].equal(others[name])] == []
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (made, wanted)]
    assert manifests[0]["code"] == manifests[1]["code"]
    options = [manifest["recipe"].get("quantizer", manifest["recipe"])["options"] for manifest in manifests]
    assert options[0] == options[1]


def test_an_export_loads(work, tmp_path):
    from transformers import CLIPVisionModel

    main(["quantize", *MODELS, "--method", "rtn", "--export", "--out", str(tmp_path / "exported")])
    loaded = CLIPVisionModel.from_pretrained(tmp_path / "exported").state_dict()
    suite = load_file(only(work / "results/quantized", "taskarithmetic-*/rtn-*") / "open_clip_model.safetensors")
    name = next(name for name in loaded if name.endswith("encoder.layers.0.mlp.fc1.weight"))
    assert loaded[name].equal(suite["visual.transformer.resblocks.0.mlp.c_fc.weight"])
    assert "## Accuracy" not in (tmp_path / "exported/README.md").read_text()
