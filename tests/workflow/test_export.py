"""`snakemake export` of the finished suite: stock transformers, without this project, has the recorded accuracy."""

import json
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

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
    head = ModelCard(card).data
    assert (head.license, head.library_name) == ("mit", "transformers")
    assert "CLIPVisionModel.from_pretrained" in card
    path = next((exported.work / "results/evaluations/quantized").glob("taskarithmetic*/epmq*/seed-0/digits-*.json"))
    record = json.loads(path.read_text())
    half = 1.96 * (record["value"] * (1 - record["value"]) / record["n"]) ** 0.5
    digits = next(result for result in head.eval_results if result.dataset_name == "digits")
    assert (digits.task_type, digits.dataset_split) == ("zero-shot-image-classification", "test")
    assert (digits.metric_type, digits.metric_value) == ("accuracy", round(record["value"], 4))
    low, high = digits.metric_args["confidence_interval"]
    assert high - low == pytest.approx(2 * half, rel=0.02)
    (line,) = [line for line in card.splitlines() if line.startswith("| digits, accuracy |")]
    assert f"| {100 * record['value']:.2f} | {100 * low:.2f} … {100 * high:.2f} |" in line
    chosen = json.loads(next((exported.work / "results/quantized").glob("taskarithmetic*/epmq*/tuning.json")).read_text())
    for words in (
        f"anchor {chosen['chosen']['anchor']}",
        "| task | examples | this model | 95 % interval | merged, full precision | its expert | pre-trained base |",
        "of suite `tiny`",
        "@article{epmq,",
        "times as many",
        "calibration seed | 0 |",
        "sha256",
    ):
        assert words in card
    assert str(exported.work) not in card
    refined = next((exported.work / "results/exported").glob("taskarithmetic*/gptq*/distill*/seed-0/README.md")).read_text()
    for words in ("# task_arithmetic + gptq + distill, 4 bits", "then refined by the experts.", "| refinement | `distill` "):
        assert words in refined
