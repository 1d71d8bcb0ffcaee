"""The paper's FLAN-T5 suite against the stand-in of the hub: the shipped config, through the Snakefile, to the report."""

import json
import re

import pandas as pd
import pytest

from pmqbench.errors import DataError
from pmqbench.tasks.definitions import list_names, load_task
from tests.hub.glue import SUITE, data_files, publish
from tests.hub.server import Hub
from tests.hub.test_suites import Run

TASKS = list_names("glue", "tasks")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with Hub() as hub:
        publish(hub)
        run = Run(hub, tmp_path_factory.mktemp("glue"))
        run.snakemake(SUITE)
        yield run


def test_the_glue_suite_runs_to_its_report(finished):
    table = pd.read_csv(finished.work / f"results/suites/{SUITE}/leaderboard.csv")
    assert table[TASKS].notna().all().all()
    assert set(table[table["rank"].notna()]["quantizer"]) == {"full precision", "rtn", "gptq", "awq", "epmq", "epmq-expert"}
    records = [json.loads(path.read_text()) for path in (finished.work / "results/evaluations").rglob("*.json")]
    assert {record["task"] for record in records if record["metric"] == "spearman"} == {"glue-stsb"}


def test_only_what_is_used_was_fetched(finished):
    fetched = finished.hub.fetched("resolve")
    assert not [path for path in fetched if re.search(r"unused|pytorch_model|special_tokens", path)]
    experts = [path for path in fetched if "tanganke/" in path]
    assert {path.rsplit("/", 1)[1] for path in experts} == {"model.safetensors", "config.json"}
    assert len([path for path in fetched if path.endswith("tokenizer.json")]) == 1
    shards = {path.split("/resolve/")[1].split("/", 1)[1] for path in fetched if path.endswith(".parquet")}
    splits = {"mnli": "validation_matched"}
    names = [name.removeprefix("glue-") for name in TASKS]
    wanted = {f"{n}/{split}-00000-of-00001.parquet" for n in names for split in ("train", splits.get(n, "validation"))}
    assert shards == wanted


def test_prompts_are_in_the_prepared_splits(finished):
    (path,) = finished.work.glob("results/data/glue-cola-*/test.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["target"] for row in rows] == ["unacceptable", "acceptable"] * 3
    assert all(row["input"].endswith("\". Answere 'acceptable' or 'unacceptable'.") for row in rows)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("glue-mnli", {"names": ["entailment", "contradiction"]}, "the data set has 2 classes, the task 3"),
        ("glue-mnli", {"names": ["neutral", "entailment", "contradiction"]}, 'label 0 is "neutral" in the data set'),
        ("glue-sst2", {"columns": ("text",)}, "there is no column 'sentence'; there are: text, label, idx"),
    ],
)
def test_another_data_set_is_named(here, tmp_path, name, changed, message):
    task = load_task(name)
    here.add("datasets", "nyu-mll/glue", data_files(task, **changed), commit=task.source["revision"])
    with pytest.raises(DataError, match=message):
        task.write_split(tmp_path / "test.jsonl", task.data_source().split(task, "test"), f"task {name}, split test")
    assert not (tmp_path / "test.jsonl").exists()


def test_dry_run_of_the_glue_suite(hub, tmp_path):
    tasks, merges, seeds, groups, calibrated = 8, 2, 3, 2, 4
    output = Run(hub, tmp_path).snakemake(SUITE, "-n", "--quiet", "rules", small=False)
    planned = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}
    assert planned.pop("total") == sum(planned.values())
    assert "build_heads" not in planned
    assert planned["prepare_task"] == planned["fetch_expert"] == planned["evaluate_expert"] == tasks
    assert planned["merge_experts"] == merges
    assert planned["calibrate_model"] == merges * groups * calibrated * seeds
    assert planned["evaluate_model"] == tasks * (1 + merges + merges * groups) + tasks * planned["calibrate_model"]
    assert hub.requests == []
