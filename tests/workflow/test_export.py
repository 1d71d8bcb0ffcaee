"""`snakemake export` of the finished suite: stock transformers, without this project, has the recorded accuracy."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.workflow.conftest import environment

CONFIG = ("--configfile", "tiny.yaml")
EVALUATE = """
import json, pathlib, sys, torch
sys.modules["pmqbench"] = None  # as where it is not installed
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import CLIPVisionModel
results = pathlib.Path(sys.argv[1])
for folder in sorted((results / "exported").glob("**/model.safetensors")):
    folder = folder.parent
    model = CLIPVisionModel.from_pretrained(folder).eval()
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(processor[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
    for data in sorted(results.glob("data/*/test.safetensors")):
        task = data.parent.name.rsplit("-", 1)[0]
        split, head = load_file(data), load_file(next(results.glob(f"heads/*/{task}-*.safetensors")))
        with torch.no_grad():
            pooled = model(pixel_values=(split["images"] / 255 - mean) / std).pooler_output
        logits = F.normalize(pooled @ head["projection"].T, dim=-1) @ head["classes"].T
        correct = (logits.argmax(-1) == split["labels"]).double().mean().item()
        print(json.dumps([folder.relative_to(results / "exported").as_posix(), task, correct]))
"""


@pytest.fixture(scope="module")
def exported(done, tmp_path_factory):
    project = done.copy(tmp_path_factory.mktemp("exported"))
    project.snakemake("export", *CONFIG)
    return project


def test_exported_models_have_the_recorded_accuracy(exported):
    results = exported.work / "results"
    command = [sys.executable, "-I", "-c", EVALUATE, str(results)]
    done = subprocess.run(command, cwd=exported.work, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    made = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(made) == (2 * (1 + 3 * 2) + 2) * 2  # merges, RTN and three methods of two seeds, a refinement's seeds; tasks
    for model, task, value in made:
        (path,) = (results / "evaluations/quantized" / model).glob(f"{task}-*.json")
        record = json.loads(path.read_text())
        assert value == record["value"], (model, task)
        assert record["size_bytes"] == (results / "exported" / model / "model.safetensors").stat().st_size
    assert "Nothing to be done" in exported.snakemake("export", *CONFIG)


def test_a_card_says_what_it_is(exported):
    folder = next((exported.work / "results/exported").glob("taskarithmetic*/epmq*/seed-0"))
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(re.match(r"---\n(.*?)\n---", card, re.DOTALL)[1])
    assert head["license"] == "mit"
    assert head["library_name"] == "transformers"
    assert "CLIPVisionModel.from_pretrained" in card
    record = next((exported.work / "results/evaluations/quantized").glob("taskarithmetic*/epmq*/seed-0/digits-*.json"))
    assert f"{100 * json.loads(record.read_text())['value']:.2f}" in card
    chosen = json.loads(next((exported.work / "results/quantized").glob("taskarithmetic*/epmq*/tuning.json")).read_text())
    for words in (
        f"anchor {chosen['chosen']['anchor']}",
        "| this model |",
        "| merged, full precision |",
        "times as many",
        "calibration seed | 0 |",
        "sha256",
    ):
        assert words in card
    assert str(exported.work) not in card
    refined = next((exported.work / "results/exported").glob("taskarithmetic*/gptq*/distill*/seed-0/README.md")).read_text()
    for words in ("# task_arithmetic + gptq + distill, 4 bits", "then refined by the experts.", "| refinement | `distill` "):
        assert words in refined
