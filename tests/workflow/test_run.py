"""The tiny suite end to end: what it makes, that a second run does nothing, and what edits rerun."""

import base64
import json
import re

import pandas as pd
import pytest
import yaml

from pmqbench.reporting import PLOTS

CONFIG = ("--configfile", "tiny.yaml")
COLUMNS = [
    "rank",
    "merge",
    "quantizer",
    "bits",
    "group_size",
    "seeds",
    "average",
    "ci_low",
    "ci_high",
    "normalised",
    "size_mb",
    "compression",
    "calibration_seconds",
    "samples",
    "chosen",
    "digits",
    "textures",
]
AFTER_RECORDS = {"collect_records", "collect_warnings", "rank_models", "plot_comparison", "track_runs", "all", "total"}


def test_leaderboard_has_every_model_and_the_fixed_columns(done):
    table = pd.read_csv(done.work / "results/suites/tiny/leaderboard.csv")
    assert list(table.columns) == COLUMNS
    ranked = table[table["rank"].notna()]
    expected = {(m, q) for m in ("ta", "ties-val") for q in ("full precision", "rtn", "gptq", "awq", "epmq")}
    assert set(zip(ranked["merge"], ranked["quantizer"], strict=True)) == expected
    assert ranked.set_index("quantizer").loc["epmq", "seeds"].tolist() == [2, 2]
    assert ranked.set_index("quantizer").loc["rtn", "seeds"].tolist() == [1, 1]
    assert (table["ci_low"] <= table["average"]).all()
    assert (table["average"] <= table["ci_high"]).all()
    assert ((table["digits"] + table["textures"]) / 2 - table["average"]).abs().max() < 0.011


def test_one_record_per_model_task_and_seed_with_provenance(done):
    records = [json.loads(path.read_text()) for path in (done.work / "results/evaluations").rglob("*.json")]
    keys = [(record["model"], record["task"], record["seed"]) for record in records]
    assert len(set(keys)) == len(keys) == 2 + 2 + 2 * 2 + 2 * 2 + 2 * 3 * 2 * 2
    for record in records:
        assert record["n"] > 0
        assert record["provenance"]["versions"]["torch"]
        assert record["provenance"]["code"]
        assert record["size_bytes"] > 0
    calibrated = [record for record in records if record["seed"] is not None]
    assert {record["provenance"]["recipe"]["quantizer"]["method"] for record in calibrated} == {"gptq", "awq", "epmq"}


def test_tuned_scaling_is_one_of_the_candidates_and_is_used(done):
    (tuning,) = (done.work / "results/merged").glob("*/tuning.json")
    chosen = json.loads(tuning.read_text())
    best = max(chosen["curve"], key=lambda point: point["average"])
    assert chosen["chosen"] == best["options"]
    manifest = json.loads((tuning.parent / "manifest.json").read_text())
    assert manifest["recipe"]["options"]["scaling"] == chosen["chosen"]["scaling"]


def test_costs_add_up_from_the_experts_to_the_quantized_model(done):
    table = pd.read_csv(done.work / "results/suites/tiny/leaderboard.csv").set_index(["merge", "quantizer"])
    (tuning,) = (done.work / "results/merged").glob("*/tuning.json")
    tuned = json.loads(tuning.read_text())["costs"]
    assert (tuned["calibration_samples"], tuned["validation_labels"]) == (0, True)
    for path in (done.work / "results/quantized").rglob("manifest.json"):
        merge = path.relative_to(done.work / "results/quantized").parts[0]
        own, merged = (json.loads(file.read_text()) for file in (path, done.work / "results/merged" / merge / "manifest.json"))
        chosen = merge == tuning.parent.name
        earlier = merged["seconds"] + chosen * tuned["calibration_seconds"]
        assert merged["costs"]["calibration_seconds"] == pytest.approx(earlier, abs=1e-3)
        assert own["costs"]["calibration_seconds"] == pytest.approx(earlier + own["seconds"], abs=1e-3)
        assert own["costs"]["validation_labels"] == merged["costs"]["validation_labels"] == chosen
        assert own["costs"]["calibration_samples"] == max(own["recipe"]["calibration_samples"].values(), default=0)
    assert table.loc[("ta", "rtn"), "samples"] == 0 < table.loc[("ta", "gptq"), "samples"]
    assert set(table.loc["ta", "chosen"]) == {"-"}
    assert set(table.loc["ties-val", "chosen"]) == {"scaling"}
    seconds = table["calibration_seconds"].unstack()
    assert (seconds.loc[["ta", "ties-val"], "gptq"] >= seconds.loc[["ta", "ties-val"], "full precision"]).all()


def test_a_second_run_does_nothing(done):
    assert "Nothing to be done" in done.snakemake(*CONFIG)


def test_nothing_half_written_is_left(done):
    assert [path for path in (done.work / "results").rglob(".*") if path.is_file()] == []


def test_the_report_page_holds_tables_and_plots_as_they_are(done):
    done.snakemake(*CONFIG, "--report", "report.html")
    embedded = re.findall(r'data:[^"]*;filename=([^;"]*);base64,([^"]*)', (done.work / "report.html").read_text())
    shown = {name: base64.b64decode(content) for name, content in embedded}
    folder = done.work / "results/suites/tiny"
    files = [folder / "leaderboard.csv", folder / "comparisons.csv", *folder.glob("plots/*.svg")]
    assert len(files) == 2 + len(PLOTS)
    assert {file.name: shown.get(file.name) for file in files} == {file.name: file.read_bytes() for file in files}


def test_the_joint_leaderboard_is_written_below_results_and_the_checkout_stays_as_it_is(edited):
    before = {path: path.stat().st_mtime_ns for path in edited.source.rglob("*") if "__pycache__" not in path.parts}
    edited.snakemake("leaderboard", *CONFIG)
    joint = pd.read_csv(edited.work / "results/leaderboard.csv")
    assert set(joint["suite"]) == {"tiny"}
    assert {path: path.stat().st_mtime_ns for path in edited.source.rglob("*") if "__pycache__" not in path.parts} == before


def test_a_new_method_is_one_file_and_one_line(edited):
    readme = (edited.source / "README.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "MERGERS.register" in block)
    (edited.source / "pmqbench/merging/my_merge.py").write_text(code)
    assert "Nothing to be done" in edited.snakemake("-n", *CONFIG)
    config = yaml.safe_load((edited.work / "tiny.yaml").read_text())
    config["merges"]["mine"] = {"method": "my_merge", "strength": 0.5}
    (edited.work / "tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    planned = edited.planned(*CONFIG)
    assert planned["merge_experts"] == 1
    assert planned["calibrate_seeds"] == 3
    assert "fetch_expert" not in planned
    edited.snakemake(*CONFIG, "--until", "merge_experts")
    assert len(list((edited.work / "results/merged").glob("mymerge-*/manifest.json"))) == 1


def test_suites_share_artefacts(edited):
    config = yaml.safe_load((edited.work / "tiny.yaml").read_text())
    config["suite"], config["quantizers"] = "other", {"mine": config["quantizers"]["gptq"]}
    (edited.work / "other.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert edited.planned("--configfile", "other.yaml").keys() == AFTER_RECORDS | {"check_experts"}


def test_an_unbatched_suite_makes_the_same_files_in_a_job_each(fresh):
    config = yaml.safe_load((fresh.work / "tiny.yaml").read_text())
    batched = fresh.planned(*CONFIG)
    (fresh.work / "unbatched.yaml").write_text(yaml.safe_dump(config | {"batch_jobs": False}, sort_keys=False))
    planned = fresh.planned("--configfile", "unbatched.yaml")
    assert batched["calibrate_seeds"] == 2 * 3
    assert planned["calibrate_model"] == 2 * 3 * 2
    assert batched["evaluate_seeds"] == 2 * 3
    assert planned["evaluate_model"] == 2 * 2 * 3 * 2 + batched["evaluate_model"] * 2
    assert planned["merge_experts"] == batched["merge_experts"] == 2


def test_the_rules_lint_clean(fresh):
    assert "good condition" in fresh.snakemake("--lint")
