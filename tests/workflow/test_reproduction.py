"""Published numbers in the workflow: the gate before merging, the comparison after it, and neither without a file of them."""

import json

import pandas as pd
import pytest
import yaml

CONFIG = ("--configfile", "tiny.yaml")
GATE = "results/gates/tiny.json"
REPRODUCTION = "results/suites/tiny/reproduction.csv"


def publish(project, digits, textures, average):
    """Writes the file of published numbers, in percent: the experts', and GPTQ's average under Task Arithmetic."""
    gptq = {"method": "gptq", "options": {"calibration_samples": 16}}
    quantized = {"label": "GPTQ", "kind": "quantized", "merge": {"method": "task_arithmetic"}, "quantizer": gptq}
    rows = [{"label": "individual", "kind": "expert", "values": [digits, textures]}, quantized | {"average": average}]
    numbers = {"tasks": ["digits", "textures"], "tolerance": {"default": 0.5, "textures": 4}, "sources": {"s": "a paper"}}
    path = project.source / "pmqbench/reporting/references/tiny.json"
    path.write_text(json.dumps(numbers | {"rows": [row | {"source": "s"} for row in rows]}))


def percent(project, pattern):
    """Mean over the records that match, in percent."""
    values = [json.loads(path.read_text())["value"] for path in (project.work / "results/evaluations").glob(pattern)]
    return 100 * sum(values) / len(values)


@pytest.fixture
def numbers(done):
    """Our own: digits, textures, GPTQ's average."""
    return [
        percent(done, f"{model}.json") for model in ("experts/*/digits-*", "experts/*/textures-*", "quantized/task*/gptq*/*/*")
    ]


def test_gate_and_comparison_of_a_finished_run(edited, numbers):
    digits, textures, average = numbers
    publish(edited, digits + 0.6, textures + 3.9, average)
    gate = edited.work / GATE
    output = edited.snakemake(REPRODUCTION, *CONFIG)
    assert "rule check_experts" in output
    assert "rule merge_experts" not in output
    assert "WARNING: experts/local-digits-" in output
    assert "-0.60 points where 0.5 are tolerated" in output
    assert "local-textures" not in output.split("WARNING")[1]
    assert "WARNING" in (edited.work / "results/logs/check_experts/tiny.log").read_text()
    gates = json.loads(gate.read_text())
    assert [gate["verdict"] for gate in gates["experts"]] == ["differs", "agrees"]
    table = pd.read_csv(edited.work / REPRODUCTION)
    verdicts = dict(zip(zip(table["setting"], table["task"], strict=True), table["verdict"], strict=True))
    assert verdicts == {
        ("individual", "digits"): "differs",
        ("individual", "textures"): "agrees",
        ("individual", "average"): "agrees",
        ("GPTQ", "average"): "agrees",
    }
    assert table["merge"].iloc[-1] == "ta"
    assert "1 of 2 experts differ from their published" in (edited.work / "results/suites/tiny/reproduction.md").read_text()
    edited.snakemake(REPRODUCTION, *CONFIG, "--report", "report.html")
    assert "reproduction.md" in (edited.work / "report.html").read_text()
    (record,) = edited.work.glob("results/evaluations/experts/*/digits-*.json")
    record.write_text(record.read_text() + "\n")  # evaluated anew: the gate is asked anew
    planned = edited.planned(*CONFIG)
    assert {"check_experts", "compare_published"} <= planned.keys()
    assert "merge_experts" not in planned


def test_strict_stops_before_merging(edited, numbers):
    digits, textures, average = numbers
    publish(edited, digits, textures - 4.1, average)
    config = yaml.safe_load((edited.work / "tiny.yaml").read_text())
    (edited.work / "tiny.yaml").write_text(yaml.safe_dump(config | {"strict": True}, sort_keys=False))
    output = edited.snakemake(*CONFIG, "--until", "merge_experts", code=1)
    assert (
        "error in check_experts: experts: experts score below the base, or differ from their published numbers by more than is "
        "tolerated (strict: true):" in output
    )
    assert "task textures" in output
    assert "+4.10 points where 4 are tolerated" in output
    assert "the evaluation split, class names and prompts" in output
    assert "rule merge_experts" not in output
    assert not (edited.work / GATE).exists()


def test_jobs_with_and_without_published_numbers(fresh, tmp_path):
    plain = fresh.planned(*CONFIG)
    project = fresh.copy(tmp_path)
    publish(project, 50.0, 50.0, 50.0)
    assert project.planned(*CONFIG) == plain | {"compare_published": 1, "total": plain["total"] + 1}
