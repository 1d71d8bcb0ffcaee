import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

import pmqbench
from pmqbench.reporting.collect import collect_curves, write_table
from pmqbench.reporting.runs import logged_runs, scrub, text
from pmqbench.reporting.tracking import DIGEST, KEY, SUITE, Counts, TrackingError, find_experiment, track, tracking_store

NO_CURVES = collect_curves("mini", [])


@pytest.fixture(scope="module")
def records(frame):
    return frame(merges={"ta": 0.6}, quantizers={"rtn": 0.0, "gptq": 0.1}, bits=(4,), n=30)


@pytest.fixture
def store(tmp_path):
    return f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}"


def runs_of(store):
    """(parent, children) of the only suite."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("PMQ-Bench").experiment_id
    found = client.search_runs([experiment], max_results=1000)
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    (parent,) = [run for run in found if run not in children]
    return client, parent, children


def test_logging_is_idempotent_and_repairs(tmp_path, store, records):
    table = tmp_path / "leaderboard.csv"
    table.write_text("rank\n1\n")
    # base, 4 experts, merged, rtn, gptq with three seeds
    assert track(records, NO_CURVES, "mini", [table], store) == Counts(10, 0, 0)
    client, parent, children = runs_of(store)
    assert len(children) == 10
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    gptq = next(run for run in children if "gptq" in run.info.run_name and run.data.params["seed"] == "1")
    rows = records[(records["quantizer"] == "gptq") & (records["seed"] == 1)]
    assert gptq.data.metrics["average"] == pytest.approx(rows["value"].mean())
    assert {f"accuracy/{task}" for task in rows["task"]} <= set(gptq.data.metrics)
    assert gptq.data.params["recipe.options.x"] == "1"
    assert json.loads(gptq.data.tags["provenance.versions"]) == {"torch": "2"}
    uploaded = tmp_path / "results" / "artefacts" / parent.info.run_id / "artifacts" / "leaderboard.csv"
    stamp = uploaded.stat().st_mtime_ns

    assert track(records, NO_CURVES, "mini", [table], store) == Counts(0, 0, 10)
    assert uploaded.stat().st_mtime_ns == stamp
    assert {run.info.run_id for run in runs_of(store)[2]} == {run.info.run_id for run in children}

    changed = records.copy()
    changed.loc[rows.index[0], "loss"] = 9.0
    killed = next(run for run in children if run.data.params["kind"] == "base")
    client.update_run(killed.info.run_id, status="RUNNING")
    table.write_text("rank\n2\n")
    assert track(changed, NO_CURVES, "mini", [table], store) == Counts(0, 2, 8)
    client, parent, children = runs_of(store)
    assert len(children) == 10
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert killed.info.run_id not in {run.info.run_id for run in children}
    assert uploaded.read_text() == "rank\n2\n"

    # A process killed between create_run and the end leaves a second, unfinished run of a finished key.
    tags = {name: children[0].data.tags[name] for name in (KEY, DIGEST, SUITE, "mlflow.parentRunId")}
    client.create_run(parent.info.experiment_id, tags=tags)
    assert track(changed, NO_CURVES, "mini", [table], store) == Counts(0, 0, 10)
    assert len(runs_of(store)[2]) == 10


def test_runs_are_called_as_the_suite_calls_its_models(store, records):
    grouped = records[records["quantizer"] == "rtn"].assign(group_size=64, quantizer="rtn-g64")
    track(pd.concat([records, grouped], ignore_index=True), NO_CURVES, "mini", [], store)
    _, parent, children = runs_of(store)
    assert parent.info.run_name == "mini"
    assert {run.info.run_name for run in children} == {
        "pre-trained",
        *(f"individual experts, {task}" for task in ("digits", "textures", "signs", "landuse")),
        "ta, full precision",
        "ta, rtn, 4 bits",
        "ta, rtn-g64, 4 bits, groups of 64",
        *(f"ta, gptq, 4 bits, seed {seed}" for seed in range(3)),
    }


def test_evaluation_and_calibration_seconds_are_told_apart(store, records):
    track(records.assign(seconds=2.5), NO_CURVES, "mini", [], store)
    run = next(run for run in runs_of(store)[2] if run.info.run_name == "ta, gptq, 4 bits, seed 1")
    rows = records[(records["quantizer"] == "gptq") & (records["seed"] == 1)]
    assert run.data.metrics["evaluation_seconds"] == 4 * 2.5
    assert run.data.metrics["calibration_seconds"] == pytest.approx(rows["calibration_seconds"].mean())
    assert "seconds" not in run.data.metrics


def test_the_parent_has_averages_and_parameters_and_follows_the_records(store, tmp_path, records):
    table = tmp_path / "leaderboard.csv"
    table.write_text("rank\n")
    track(records, NO_CURVES, "mini", [table], store)
    client, parent, children = runs_of(store)
    gptq = records[records["quantizer"] == "gptq"]
    assert parent.data.metrics["average/ta/gptq/4 bits"] == pytest.approx(gptq["value"].mean())
    assert parent.data.metrics["average/individual experts"] == pytest.approx(
        records[records["kind"] == "expert"]["value"].mean()
    )
    assert len(parent.data.metrics) == 5
    assert parent.data.params == {
        "tasks": "digits, textures, signs, landuse",
        "merges": "ta",
        "quantizers": "rtn, gptq",
        "bits": "32, 4",
        "seeds": "0, 1, 2",
    }
    more = pd.concat([records, gptq.assign(quantizer="new", value=0.5)], ignore_index=True)
    assert track(more, NO_CURVES, "mini", [table], store) == Counts(3, 0, 10)
    _, second, now = runs_of(store)
    assert second.info.run_id != parent.info.run_id
    assert second.data.params["quantizers"] == "rtn, gptq, new"
    assert second.data.metrics["average/ta/new/4 bits"] == 0.5
    assert {run.data.tags["mlflow.parentRunId"] for run in now} == {second.info.run_id}
    assert {run.info.run_id for run in children} < {run.info.run_id for run in now}
    assert [entry.path for entry in client.list_artifacts(second.info.run_id)] == ["leaderboard.csv"]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def track_elsewhere(folder, records, suite, artefacts):
    """`track` in a process of its own, as a job does: MLflow remembers for as long as it lives where a run's artefacts go."""
    write_table(folder / "records.parquet", records)
    program = (
        "import sys\n"
        "from pmqbench.reporting.collect import collect_curves, read_table\n"
        "from pmqbench.reporting.tracking import track, tracking_store\n"
        "folder, suite, *artefacts = sys.argv[1:]\n"
        "records, curves = read_table(f'{folder}/records.parquet'), collect_curves(suite, [])\n"
        "print(track(records, curves, suite, artefacts, tracking_store(folder)))\n"
    )
    command = [sys.executable, "-c", program, folder, suite, *artefacts]
    environment = os.environ | {"PYTHONPATH": str(Path(pmqbench.__file__).parents[1])}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder.parent, env=environment)
    return done.stdout.strip()


def test_a_copied_folder_keeps_its_artefacts_to_itself(tmp_path, monkeypatch, records):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, second = tmp_path / "first checkout", tmp_path / "second"
    plot, table = tmp_path / "plot.svg", tmp_path / "leaderboard.csv"
    plot.write_text("old")
    table.write_text("rank")
    track(records, NO_CURVES, "mini", [plot, table], tracking_store(first))
    shutil.copytree(first, second)
    untouched = contents(first)
    assert any(path.name == "plot.svg" for path in untouched)

    plot.write_text("new")
    assert track_elsewhere(second, records, "mini", [plot, table]) == str(Counts(0, 0, 10))
    assert contents(first) == untouched
    _, parent, children = runs_of(tracking_store(second))
    for run in (parent, *children):
        assert run.info.artifact_uri.startswith((second / "artefacts").as_uri())
    assert [one.read_text() for one in second.rglob("plot.svg")] == ["new"]

    # The store alone was copied: what it says was uploaded is not there.
    shutil.rmtree(second / "artefacts")
    track_elsewhere(second, records, "mini", [plot, table])
    assert {path.name for path in (second / "artefacts").rglob("*") if path.is_file()} == {"plot.svg", "leaderboard.csv"}
    # A run that was not there when the folder was copied.
    track(records, NO_CURVES, "mini-full", [plot], tracking_store(second))
    assert contents(first) == untouched


def test_a_server_chooses_where_its_artefacts_go(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_store(tmp_path) == "http://tracking:5000"
    client = Mock()
    client.get_experiment_by_name.return_value = None
    find_experiment(client, tracking_store(tmp_path))
    client.create_experiment.assert_called_once()
    assert client.create_experiment.call_args.kwargs["artifact_location"] is None
    client.get_experiment_by_name.return_value = Mock(experiment_id="1", artifact_location="s3://bucket/1")
    assert find_experiment(client, f"sqlite:///{tmp_path / 'mlflow.db'}") == "1"  # no such file: nothing was written


def test_a_model_with_two_names_is_two_runs(store, records):
    again = records[records["quantizer"] == "gptq"].assign(quantizer="gptq-too")
    both = pd.concat([records, again], ignore_index=True)
    assert track(records, NO_CURVES, "mini", [], store) == Counts(10, 0, 0)
    assert track(both, NO_CURVES, "mini", [], store) == Counts(3, 0, 10)
    assert track(pd.concat([again, records], ignore_index=True), NO_CURVES, "mini", [], store) == Counts(0, 0, 13)
    _, _, children = runs_of(store)
    assert {run.data.params.get("quantizer") for run in children} == {None, "rtn", "gptq", "gptq-too"}


def test_loss_curves_are_metrics_with_a_history(store, records, curves):
    refined = curves(merges=["ta"], quantizers=["gptq"], bits=(4,))
    assert track(records, refined, "mini", [], store) == Counts(10, 0, 0)
    client, _, children = runs_of(store)
    run = next(run for run in children if run.data.params.get("quantizer") == "gptq" and run.data.params["seed"] == "1")
    told = refined[refined["seed"] == 1]
    for name in ("loss", "held_out"):
        known = told.dropna(subset=[name])
        points = sorted(client.get_metric_history(run.info.run_id, f"refinement/{name}"), key=lambda point: point.step)
        assert [(point.step, point.value) for point in points] == list(zip(known["step"], known[name], strict=True))
        times = [point.timestamp - points[0].timestamp for point in points]
        assert times == [round(1000 * (seconds - known["seconds"].iloc[0])) for seconds in known["seconds"]]
    assert not any("refinement/loss" in run.data.metrics for run in children if run.data.params.get("quantizer") != "gptq")
    assert {run.data.metrics["calibration_samples"] for run in children} == {0, 48}

    assert track(records, refined, "mini", [], store) == Counts(0, 0, 10)
    other = refined.assign(loss=refined["loss"].where(refined["seed"] != 2, 9.0))
    assert track(records, other, "mini", [], store) == Counts(0, 1, 9)


def test_tasks_of_any_name(store, records):
    named = records.assign(task=records["task"].replace({"digits": "digits (hard) + more"}))
    track(named, NO_CURVES, "mini", [], store)
    _, _, children = runs_of(store)
    assert any("accuracy/digits _hard_ _ more" in run.data.metrics for run in children)


def test_dead_server(records):
    with pytest.raises(TrackingError) as caught:
        track(records, NO_CURVES, "mini", [], "http://someone:secret-word@127.0.0.1:9")
    said = r"http://127\.0\.0\.1:9: MLflow failed: no answer: \[Errno \d+\] Connection refused\. The records are safe\. "
    assert re.fullmatch(said + ".*, run: snakemake track", str(caught.value))


def test_store_that_is_no_database(tmp_path, records):
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(TrackingError, match="records are safe"):
        track(records, NO_CURVES, "mini", [], f"sqlite:///{broken}")


def test_credentials_are_not_logged(records):
    assert scrub("https://user:password@host/x") == "https://host/x"
    assert scrub(f"token hf_{'a' * 34} here") == "token  here"
    assert len(text("a" * 10_000)) == 5000
    leaky = records.copy()
    leaky["provenance"] = json.dumps(
        {"recipe": {"source": "https://user:password@hub/model"}, "inputs": {"a": f"hf_{'b' * 30}"}}
    )
    assert "password" not in str([dataclasses.asdict(run) for run in logged_runs(leaky, NO_CURVES)])
    assert "bbb" not in str([dataclasses.asdict(run) for run in logged_runs(leaky, NO_CURVES)])


def test_runs_have_distinct_keys(records):
    runs = logged_runs(records, NO_CURVES)
    assert len({run.key for run in runs}) == len(runs) == 10
    table = records.copy()
    table.loc[0, "seconds"] = 7.0
    changed = [new.key for new, old in zip(logged_runs(table, NO_CURVES), runs, strict=True) if new.digest != old.digest]
    assert changed == [runs[0].key]
