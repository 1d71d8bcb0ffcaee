"""The tiny suite end to end: what it makes, that a second run does nothing, and what edits rerun."""

import base64
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pmqbench.reporting import PLOTS
from tests.workflow.conftest import environment

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
    "standard_error",
    "tied_rank",
    "above_p",
    "to_reference",
    "to_reference_p",
    "to_best",
    "to_best_p",
    "worst",
    "worst_task",
    "win_rate",
    "average_rank",
    "improvability",
    "digits",
    "textures",
]
AFTER_RECORDS = {"collect_records", "collect_warnings", "rank_models", "plot_comparison", "track_runs", "write_page"}
AFTER_RECORDS |= {"all", "total"}


def test_leaderboard_has_every_model_and_the_fixed_columns(done):
    table = pd.read_csv(done.work / "results/suites/tiny/leaderboard.csv")
    assert list(table.columns) == COLUMNS
    ranked = table[table["rank"].notna()]
    expected = {(m, q) for m in ("ta", "ties-val") for q in ("full precision", "rtn", "gptq", "awq", "epmq")}
    expected.add(("ta", "distilled"))
    assert set(zip(ranked["merge"], ranked["quantizer"], strict=True)) == expected
    assert ranked.set_index("quantizer").loc["epmq", "seeds"].tolist() == [2, 2]
    assert ranked.set_index("quantizer").loc["rtn", "seeds"].tolist() == [1, 1]
    assert (table["ci_low"] <= table["average"]).all()
    assert (table["average"] <= table["ci_high"]).all()
    assert ((table["digits"] + table["textures"]) / 2 - table["average"]).abs().max() < 0.011


def test_one_record_per_model_task_and_seed_with_provenance(done):
    records = [json.loads(path.read_text()) for path in (done.work / "results/evaluations").rglob("*.json")]
    keys = [(record["model"], record["task"], record["seed"]) for record in records]
    assert len(set(keys)) == len(keys) == 2 + 2 + 2 * 2 + 2 * 2 + 2 * 3 * 2 * 2 + 2 * 2
    for record in records:
        assert record["n"] > 0
        assert record["provenance"]["versions"]["torch"]
        assert record["provenance"]["code"]
        assert record["size_bytes"] > 0
    recipes = [record["provenance"]["recipe"] for record in records if record["seed"] is not None]
    assert {recipe["quantizer"]["method"] for recipe in recipes if "quantizer" in recipe} == {"gptq", "awq", "epmq"}
    assert [recipe["refinement"]["method"] for recipe in recipes if "refinement" in recipe] == ["distill"] * 2 * 2


def test_tuned_scaling_is_one_of_the_candidates_and_is_used(done):
    (tuning,) = (done.work / "results/merged").glob("*/tuning.json")
    chosen = json.loads(tuning.read_text())
    best = max(chosen["curve"], key=lambda point: point["average"])
    assert chosen["chosen"] == best["options"]
    manifest = json.loads((tuning.parent / "manifest.json").read_text())
    assert manifest["recipe"]["options"]["scaling"] == chosen["chosen"]["scaling"]


def test_tuned_options_of_a_quantizer_are_a_candidate_each_and_are_used(done):
    tunings = list((done.work / "results/quantized").rglob("tuning.json"))
    assert len(tunings) == 2
    for tuning in tunings:
        choice = json.loads(tuning.read_text())
        assert [point["options"] for point in choice["curve"]] == [{"anchor": 0.1}, {"anchor": 1}]
        for seed in (0, 1):
            made = json.loads((tuning.parent / f"seed-{seed}" / "manifest.json").read_text())["recipe"]["quantizer"]
            assert made["options"]["anchor"] == choice["chosen"]["anchor"]


def test_costs_add_up_from_the_experts_to_the_quantized_and_refined_models(done):
    results = done.work / "results"
    manifests = list((results / "quantized").rglob("manifest.json"))
    assert len(manifests) == 2 + 2 * 3 * 2 + 2
    for path in manifests:
        merge, quantizer, *refinement = [
            part for part in path.relative_to(results / "quantized").parts[:-1] if "seed-" not in part
        ]
        own, merged = (json.loads(file.read_text()) for file in (path, results / "merged" / merge / "manifest.json"))
        folder = results / "quantized" / merge / quantizer
        start = folder / path.parent.name / "manifest.json"
        before = json.loads(start.read_text())["costs"] if refinement else merged["costs"]
        tuning = folder / "tuning.json"
        tuned = json.loads(tuning.read_text())["costs"]["calibration_seconds"] if tuning.is_file() else 0
        expected = before["calibration_seconds"] + tuned + own["seconds"]
        assert own["costs"]["calibration_seconds"] == pytest.approx(expected, abs=2e-3)
        assert own["costs"]["validation_labels"] == (tuning.is_file() or before["validation_labels"])
        assert own["costs"]["calibration_samples"] == (0 if own["recipe"]["seed"] is None else 16)


def test_the_leaderboard_says_what_was_seen_and_chosen(done):
    table = pd.read_csv(done.work / "results/suites/tiny/leaderboard.csv").set_index(["merge", "quantizer"])
    assert table.loc[("ta", "rtn"), "samples"] == 0 < table.loc[("ta", "gptq"), "samples"]
    assert set(table.loc["ta"].drop("epmq")["chosen"]) == {"-"}
    assert table.loc[("ta", "epmq"), "chosen"] == "anchor"
    assert table.loc[("ties-val", "gptq"), "chosen"] == "scaling"
    assert table.loc[("ties-val", "epmq"), "chosen"] == "scaling, anchor"
    seconds = table["calibration_seconds"].unstack()
    assert (seconds.loc[["ta", "ties-val"], "gptq"] >= seconds.loc[["ta", "ties-val"], "full precision"]).all()
    assert seconds.loc["ta", "distilled"] > seconds.loc["ta", "gptq"]


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


def test_the_report_page_links_to_the_leaderboards_page(done):
    done.snakemake(*CONFIG, "--report", "report.html")
    assert 'href=\\"leaderboard.html\\"' in (done.work / "report.html").read_text()


def test_the_index_leads_from_every_row_to_files_that_exist(done):
    folder = done.work / "results/suites/tiny"
    names = ["merge", "quantizer", "bits", "group_size"]
    index, rows = (pd.read_csv(folder / name)[names] for name in ("index.csv", "leaderboard.csv"))
    assert set(map(tuple, index.to_numpy())) == set(map(tuple, rows.to_numpy()))
    for entry in json.loads((folder / "index.json").read_text()):
        assert (done.work / entry["folder"] / "manifest.json").is_file()
        assert all((done.work / record).is_file() for record in entry["records"])


def test_the_pages_command_makes_what_is_missing_of_a_row(edited):
    page = (edited.work / "results/suites/tiny/leaderboard.html").read_text()
    contents = json.loads(re.search(r'id="contents">(.*?)</script>', page, re.DOTALL)[1])
    row = next(number for number, row in enumerate(contents["rows"]) if row[1:3] == ["ta", "gptq"])
    records = [record for file in contents["details"][row]["files"] for record in file["records"]]
    (edited.work / records[0]).unlink()
    program, *arguments = shlex.split(contents["command"])
    assert program == "snakemake"
    assert arguments[-2:] == ["tiny.yaml", "--"]
    assert arguments[0] == "--snakefile"
    assert arguments[1].endswith("/source/Snakefile")
    planned = edited.planned(*arguments, *records)
    assert sum(count for rule, count in planned.items() if rule != "total") == 1
    assert next(iter(planned)).startswith("evaluate")


def test_the_joint_leaderboard_is_written_below_results_and_the_checkout_stays_as_it_is(edited):
    (edited.source / "leaderboard").mkdir()
    told = submit(edited, "ta/gptq/4")
    told |= {"quantizer": "secret", "code_included": False}
    told["recipe"] |= {"model": None, "quantizer": {"method": "secret"}}
    entries = edited.source / "leaderboard/entries"
    (entries / "secret.json").write_text(json.dumps(told))
    (entries / "bad.json").write_text("{")
    before = {path: path.stat().st_mtime_ns for path in edited.source.rglob("*") if "__pycache__" not in path.parts}
    output = edited.snakemake("leaderboard", *CONFIG)
    assert "bad.json: refused: Invalid JSON" in output
    assert "Open results/leaderboard.html.\n" in output
    joint = pd.read_csv(edited.work / "results/leaderboard.csv")
    assert set(joint["suite"]) == {"tiny"}
    origins = joint.set_index(["merge", "quantizer", "bits"])["origin"]
    assert origins["ta", "secret", 4] == "not regenerated"
    assert origins["ta", "gptq", 4] == "confirmed"
    assert (origins == "here").sum() == len(joint) - 2
    assert 'href="suites/tiny/leaderboard.html"' in (edited.work / "results/leaderboard.html").read_text()
    assert {path: path.stat().st_mtime_ns for path in edited.source.rglob("*") if "__pycache__" not in path.parts} == before


def submit(project, row):
    """The entry that the command writes of a row."""
    command = [sys.executable, "-m", "pmqbench.cli", "submit", "tiny.yaml", row, "--by", "Ada Lovelace"]
    variables = environment() | {"PYTHONPATH": str(project.source)}
    done = subprocess.run(command, cwd=project.work, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path, _, said = done.stdout.partition(": ")
    assert said == "written and checked. `make leaderboard` shows it; to send it in, commit it and open a pull request.\n"
    return json.loads(Path(path).read_text())


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
    assert batched["evaluate_merge"] == 2
    assert batched["evaluate_seeds"] == 1
    assert planned["evaluate_model"] == 2 * (1 + 2 + 2 + 2 * 3 * 2 + 2)
    assert planned["merge_experts"] == batched["merge_experts"] == 2
    assert planned["refine_model"] == batched["refine_model"] == 2


def test_the_rules_lint_clean(fresh):
    assert "good condition" in fresh.snakemake("--lint")
