"""A T5 suite end to end: records, leaderboard, models that transformers loads, and configs that are refused."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError
from tests.t5.conftest import PROMPTS, config, rows
from tests.workflow.conftest import ROOT

CONFIG = ("--configfile", "t5.yaml")
GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")


def records(project):
    return [json.loads(path.read_text()) for path in (project.work / "results/evaluations").rglob("*.json")]


def test_leaderboard_has_every_quantizer_and_both_metrics(project):
    table = pd.read_csv(project.work / "results/suites/tiny-t5/leaderboard.csv")
    ranked = table[table["rank"].notna()]
    assert set(ranked["quantizer"]) == {"full precision", "rtn", "gptq", "awq", "epmq", "epmq-expert"}
    assert {"mood", "rate"} <= set(table.columns)
    assert (table["ci_low"] <= table["ci_high"]).all()


def test_records_have_outcomes_for_exact_match_alone(project):
    made = records(project)
    assert len(made) == 2 + 2 + 2 + 2 * 5
    for record in made:
        exact = record["task"] == "mood"
        assert record["metric"] == ("accuracy" if exact else "spearman")
        assert (record["correct"] is not None) == exact
        assert record["n"] == 24
        assert record["loss"] is None
    values = {(record["kind"], record["task"]): record["value"] for record in made}
    assert values["expert", "mood"] > 0.9
    assert values["expert", "rate"] > 0.9


def test_transformers_gives_the_recorded_accuracy(project):
    """Merged and quantized folders, loaded by transformers and asked prompt by prompt, answer as the records say."""
    from tokenizers import Tokenizer
    from transformers import T5ForConditionalGeneration

    tokenizer = Tokenizer.from_file(str(project.work / "models/base/tokenizer.json"))
    wanted = ["bad", "good"]
    checked = [record for record in records(project) if record["task"] == "mood" and record["kind"] in ("merged", "quantized")]
    assert len(checked) == 6
    for record in checked:
        model = T5ForConditionalGeneration.from_pretrained(project.work / "results" / record["model"]).eval()
        answers = []
        for row in rows("mood", "test"):
            ids = tokenizer.encode(PROMPTS["mood"].format(**row)).ids
            made = model.generate(model.shared.weight.new_tensor([ids]).long(), max_length=10, do_sample=False, num_beams=1)
            answers.append(tokenizer.decode(made[0].tolist()))
        right = [answer == wanted[row["label"]] for answer, row in zip(answers, rows("mood", "test"), strict=True)]
        assert record["value"] == pytest.approx(np.mean(right)), record["model"]


def test_layers_are_recorded_in_forward_order(project):
    (path,) = (project.work / "results/quantized").glob("*/epmq-*targetinputsexpert*/seed-0/layers.json")
    layers = [record["layer"] for record in json.loads(path.read_text())]
    assert layers[0] == "encoder.block.0.layer.0.SelfAttention.q"
    assert layers[-1] == "decoder.block.1.layer.2.DenseReluDense.wo"
    assert len(layers) == len(set(layers)) == 2 * 7 + 2 * 11


def test_a_second_run_does_nothing_and_a_changed_row_does(project):
    assert "Nothing to be done" in project.snakemake("-n", *CONFIG)
    path = project.work / "data/mood/test.jsonl"
    before = path.read_text()
    path.write_text(before + before.splitlines()[0] + "\n")
    planned = project.planned(*CONFIG)
    path.write_text(before)
    assert planned["prepare_task"] == 1
    assert "fetch_expert" not in planned


@pytest.fixture
def in_folder(project, monkeypatch):
    monkeypatch.chdir(project.work)


def test_a_base_without_tokenizer_is_refused(project, in_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(project.work / "models/base" / name)
    with pytest.raises(ConfigError, match=r"base.path: .*tokenizer\.json"):
        load_suite(config() | {"base": {"source": "local", "path": str(tmp_path)}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tasks": ["digits"]}, 'task "digits" is of kind image_classification; family t5 takes text_to_text'),
        ({"group_sizes": [5]}, "group size 5 does not divide the inputs of encoder.block.0.layer.0.SelfAttention.q"),
        ({"tasks": [{**config()["tasks"][0], "metric": "f1"}]}, "tasks.0.metric"),
    ],
)
def test_bad_configs(in_folder, change, words):
    with pytest.raises(ConfigError) as caught:
        load_suite(config() | change)
    assert words in str(caught.value)


def test_the_glue_suite_is_the_papers():
    suite = load_suite(read_config(ROOT / "config/flan-t5-base-glue.yaml"))
    assert [task.name for task in suite.tasks] == [f"glue-{name}" for name in GLUE]
    default = suite.targets["default"]
    assert {merge.method.scaling for merge in default.merges} == {0.3}
    assert {(q.method.bits, q.method.group_size) for _, q in default.pairs} == {(4, None), (4, 128)}
    assert suite.experts.id.replace("{task}", "glue-stsb") == "tanganke/flan-t5-base_glue-stsb"


def test_parsing_imports_no_model_library():
    code = (
        "import sys, yaml; from pmqbench.config import load_suite, read_config;"
        f"load_suite(read_config({str(ROOT / 'config/flan-t5-base-glue.yaml')!r}));"
        "print([m for m in ('torch', 'transformers', 'datasets', 'huggingface_hub', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert yaml.safe_load((ROOT / "config/flan-t5-base-glue.yaml").read_text())["family"] == "t5"
