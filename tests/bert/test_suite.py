"""A suite of sentence encoders end to end: leaderboard, records that transformers repeats, exported models."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from pmqbench.config import load_suite
from pmqbench.errors import ConfigError
from tests.workflow.conftest import ROOT, environment

EVALUATE = """
import csv, json, sys, torch
sys.modules["pmqbench"] = None  # as where it is not installed
from tokenizers import Tokenizer
from transformers import BertModel

def embed(model, tokenizer, texts):
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=True).ids])
        rows.append(model(input_ids=ids).last_hidden_state[0].mean(0))
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)

@torch.no_grad()
def main(base, tasks, folders):
    tokenizer = Tokenizer.from_file(base + "/tokenizer.json")
    tokenizer.no_padding()
    start = BertModel.from_pretrained(base).eval()
    for folder in folders:
        model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
        for task in tasks:
            rows = list(csv.DictReader(open(f"texts/{task['name']}/test.csv", newline="")))
            (template,) = task["templates"]
            head = embed(start, tokenizer, [template.format(name) for name in task["classnames"]])
            answers = (embed(model, tokenizer, [row["text"] for row in rows]) @ head.T).argmax(1).tolist()
            right = [task["classnames"][answer] == row["label"] for answer, row in zip(answers, rows)]
            print(json.dumps([folder, task["name"], sum(right) / len(right)]))

main(*json.loads(sys.argv[1]))
"""


def records(project):
    return [json.loads(path.read_text()) for path in (project.work / "results/evaluations").rglob("*.json")]


def accuracies(project, folders):
    """(folder, task) -> accuracy as stock transformers, without this project, gives it."""
    tasks = yaml.safe_load((project.work / "texts.yaml").read_text())["tasks"]
    given = json.dumps(["models/base", tasks, [str(folder) for folder in folders]])
    command = [sys.executable, "-I", "-c", EVALUATE, given]
    done = subprocess.run(command, cwd=project.work, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    made = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {(folder, task): value for folder, task, value in made}


def test_the_leaderboard_has_every_row_and_experts_have_learned(project):
    table = pd.read_csv(project.work / "results/suites/texts/leaderboard.csv")
    assert {"full precision", "rtn", "gptq", "epmq"} == set(table["quantizer"])
    assert table[["topic", "mood"]].notna().all().all()
    average = table.set_index("merge")["average"]
    assert average["individual experts"] > 95
    assert average["pre-trained"] < 70


def test_transformers_gives_the_recorded_accuracy(project):
    made = [record for record in records(project) if record["kind"] in ("merged", "quantized")]
    assert len(made) == 2 * 4
    values = accuracies(project, dict.fromkeys(f"results/{record['model']}" for record in made))
    for record in made:
        assert record["metric"] == "accuracy"
        assert record["loss"] > 0
        assert record["value"] == pytest.approx(values[f"results/{record['model']}", record["task"]]), record["model"]


def test_exported_models_have_the_recorded_accuracy(project):
    project.snakemake("export", "--configfile", "texts.yaml")
    exported = project.work / "results/exported"
    folders = sorted(path.parent for path in exported.glob("**/model.safetensors"))
    assert len(folders) == 3
    wanted = {(record["model"], record["task"]): record["value"] for record in records(project)}
    for (folder, task), value in accuracies(project, folders).items():
        model = folder.removeprefix(f"{exported}/")
        assert value == pytest.approx(wanted[f"quantized/{model}", task])
        assert "add_pooling_layer=False" in (exported / model / "README.md").read_text()
        assert (exported / model / "tokenizer.json").read_bytes() == (project.work / "models/base/tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tasks": ["digits"]}, 'task "digits" is of kind image_classification; family bert takes text_classification'),
        ({"group_sizes": [5]}, "group size 5 does not divide the inputs of encoder.layer.0.attention.self.query"),
    ],
)
def test_bad_configs(project, monkeypatch, change, words):
    monkeypatch.chdir(project.work)
    with pytest.raises(ConfigError) as caught:
        load_suite(yaml.safe_load((project.work / "texts.yaml").read_text()) | change)
    assert words in str(caught.value)


def test_parsing_imports_no_model_library(project):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pmqbench.config import load_suite, read_config;"
        "load_suite(read_config('texts.yaml'));"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project.work, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
