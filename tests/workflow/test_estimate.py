"""What jobs ask for, and what an estimate says, against what Snakemake plans and what jobs of the tiny suite used."""

import json
import math
from collections import Counter

import pytest
import yaml
from snakemake.iocontainers import Wildcards

from benchmarks.shapes import MODELS, shapes
from pmqbench.cli import main
from pmqbench.config import load_suite
from pmqbench.families.base import FAMILIES
from pmqbench.integrity import write_manifest
from pmqbench.workflow.estimate import Estimate
from tests.workflow.conftest import tiny_config

LARGE = {"batch_jobs": False, "job_gpus": 0}
LEAST_MB = 300  # where a cluster also counts the job's two Snakemakes, and a record was taken before all was imported
HUB = {
    "base": {"source": "hub", "id": "owner/base"},
    "experts": {"source": "hub", "id": "owner/{task}"},
}


def estimate(**changes):
    return Estimate(load_suite(tiny_config() | changes), "all", cores=2)


def jobs_by_rule(found):
    return Counter(job.rule for job in found.jobs.values())


def test_jobs_are_those_that_snakemake_did(done, monkeypatch):
    monkeypatch.chdir(done.work)
    logs = done.work / "results/logs"
    ran = {rule.name: len(list(rule.rglob("*.log"))) for rule in logs.iterdir()}
    assert jobs_by_rule(estimate()) == ran


def test_jobs_of_a_large_suite_are_those_that_snakemake_plans(fresh, monkeypatch, tmp_path):
    monkeypatch.chdir(fresh.work)
    config = tmp_path / "large.yaml"
    config.write_text(yaml.safe_dump(tiny_config() | LARGE))
    planned = fresh.planned("--configfile", str(config))
    assert jobs_by_rule(estimate(**LARGE)) == {rule: n for rule, n in planned.items() if rule not in ("all", "total")}


def test_jobs_ask_for_what_they_use_and_not_for_much_more(done, monkeypatch):
    monkeypatch.chdir(done.work)
    found, measured = estimate(), done.work / "results/benchmarks"
    asked = {row.rule: row for row in found.rows}
    seen = set()
    for path in measured.rglob("*.jsonl"):
        used, rule = json.loads(path.read_text()), path.relative_to(measured).parts[0]
        if used["max_rss"] != "NA":  # of a job that was over before it was looked at
            megabytes = used["max_rss"] * 2**20 / 1e6
            assert megabytes < asked[rule].memory_mb < 3 * max(megabytes, LEAST_MB), path
            seen.add(rule)
    assert {"merge_experts", "calibrate_seeds", "evaluate_merge", "refine_model", "prepare_task"} <= seen


def test_another_attempt_asks_for_more(monkeypatch, done):
    monkeypatch.chdir(done.work)
    resources = estimate(**LARGE).resources
    asked = resources.of(resources.base_work)
    first, second = ({name: asked[name](Wildcards(), attempt) for name in ("mem_mb", "runtime")} for attempt in (1, 2))
    assert second == {name: 2 * value for name, value in first.items()}


@pytest.mark.parametrize("model", MODELS)
def test_sizes_are_those_of_the_tensors(model):
    family, config = MODELS[model]
    size, tensors = FAMILIES.get(family)().size(config), shapes(family, config)
    assert size.parameters == sum(map(math.prod, tensors.values()))
    assert size.largest == max(map(math.prod, tensors.values()))


def test_a_base_is_as_large_as_its_file(done, monkeypatch):
    monkeypatch.chdir(done.work)
    stored = (done.work / "models/base/open_clip_model.safetensors").stat().st_size
    assert estimate().model.base_bytes == pytest.approx(stored, rel=0.01)


def test_a_model_that_nothing_is_known_of_counts_as_a_large_one_and_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(tiny_config() | HUB | LARGE | {"job_gpus": 1}))
    main(["estimate", str(config), "--cores", "4"])
    said = capsys.readouterr().out
    assert "counts as a ViT-L/14" in said
    assert "GPU hours are not measured" in said
    assert "1.7 GB" in said  # of the base


def test_a_base_that_is_there_is_asked(done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suite = load_suite(tiny_config() | HUB)
    folder = tmp_path / "results/experts" / suite.base_id
    folder.mkdir(parents=True)
    config = next((done.work / "results/experts").glob("local-base-*/open_clip_config.json"))
    (folder / config.name).write_text(config.read_text())
    write_manifest(folder, {})
    assert Estimate(suite, "all").model.width == 32
    (folder / config.name).write_text("{")
    assert Estimate(suite, "all").resources.formulas.sizes.assumed  # refused by jobs, not before a run can start
