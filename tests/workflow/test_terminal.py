"""What a user sees of a run: Snakemake's own log and ours, with and without a terminal, success, failure and a lock."""

import json
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

CONFIG = ("--configfile", "tiny.yaml", "--logger", "pmqbench")
FEW = (*CONFIG, "--until", "prepare_task")


@pytest.fixture
def project(fresh, tmp_path):
    """Nothing run yet; `--logger pmqbench` is found as by the Makefile."""
    copy = fresh.copy(tmp_path)
    copy.variables = {"PYTHONPATH": str(copy.source)}
    return copy


def test_a_line_a_job_and_the_log_file_last(project):
    lines = project.snakemake(*FEW).splitlines()
    begin = lines.index("2 jobs to do") + 1
    assert (named := re.fullmatch(r"Log: (\S+); of each job: results/logs/", lines[begin]))
    assert re.fullmatch(r"1/2 prepare_task \S+ \(\d+ (s|min)\), \d+ (s|min) left", lines[begin + 1])
    assert re.fullmatch(r"2/2 prepare_task \S+ \(\d+ (s|min)\)", lines[begin + 2])
    assert lines[begin + 3].startswith("Complete log(s): ")
    assert len(lines) == begin + 4
    log = lines[-1].removeprefix("Complete log(s): ")
    assert Path(log) == project.work / named[1]
    whole = (project.work / log).read_text()
    assert "rule prepare_task:" in whole
    assert whole.count("Finished jobid: ") == 2
    assert "0 jobs to do" in project.snakemake(*FEW).splitlines()


def test_a_dry_run_lists_the_jobs(project):
    output = project.snakemake(*FEW, "-n")
    assert len(re.findall(r"^prepare_task +2$", output, re.MULTILINE)) == 1
    assert "This was a dry-run" in output


def test_failed_jobs_are_listed_with_cause_and_log(project):
    """Snakemake's own logger lists them too: test_failures.py."""
    weights = project.work / "models/digits/open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    lines = project.snakemake(*CONFIG, "--until", "fetch_expert", code=1).splitlines()
    begin = lines.index("1 job failed:")
    assert re.fullmatch(rf"  {weights}: not a readable .* put a whole copy there and run again\.", lines[begin + 2])
    assert re.fullmatch(r"    fetch_expert local-digits-\w+  results/logs/fetch_expert/local-digits-\w+\.log", lines[begin + 3])
    assert "Not begun" not in "".join(lines)
    assert not [line for line in lines if "CalledProcessError" in line or "WorkflowError" in line]


def test_a_lock_is_explained_and_released(project):
    locks = project.work / ".snakemake/locks"
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "0.output.lock").write_text("results/suites/tiny/leaderboard.csv\n")
    output = project.snakemake(*CONFIG, code=1)
    assert "`make unlock`" in output
    assert "kill signal" not in output
    assert not (project.work / "results").exists()
    project.snakemake("--configfile", "tiny.yaml", "--unlock")
    assert not list(locks.glob("*"))


def test_plain_snakemake_ends_with_the_leaderboard_that_it_made_and_leaves_it_to_make(edited):
    ranking = ("--configfile", "tiny.yaml", "--until", "rank_models")
    table = edited.work / "results/suites/tiny/leaderboard.csv"
    table.unlink()
    assert "individual experts" in edited.snakemake(*ranking)
    assert "individual experts" not in edited.snakemake(*ranking)
    table.unlink()
    edited.variables = {"MAKELEVEL": "1"}
    assert "individual experts" not in edited.snakemake(*ranking)
    assert table.is_file()


def test_a_run_whose_tracking_server_is_down_shows_its_leaderboard(edited):
    edited.variables = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "PYTHONPATH": str(edited.source)}
    lines = edited.snakemake(*CONFIG, code=1).splitlines()
    begin = lines.index("1 job failed:")
    cause, job = lines[begin + 2 : begin + 4]
    assert re.match(r"  http://127\.0\.0\.1:9: MLflow failed: .* run: snakemake track", cause)
    assert job.split()[:2] == ["track_runs", "tiny"]
    assert [line for line in lines[:begin] if "individual experts" in line]
    assert not (edited.work / "results/suites/tiny/tracked.json").exists()
    del edited.variables["MLFLOW_TRACKING_URI"]
    edited.snakemake("track", *CONFIG)
    assert json.loads((edited.work / "results/suites/tiny/tracked.json").read_text())["skipped"] > 0


def test_a_terminal_has_bars_and_keeps_what_jobs_say(project):
    weights = project.work / "models/digits/open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    screen, code = in_terminal(project, *CONFIG, "--until", "fetch_expert")
    assert code == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen).replace("\r", "\n")
    assert re.search(r"all jobs\s+━+", plain)
    assert re.search(r"fetch_expert\s+━+ \d/2", plain)
    assert len(re.findall(r"^error in fetch_expert: .*not a readable", plain, re.MULTILINE)) == 1
    assert plain.rstrip().splitlines()[-1].startswith("Complete log(s): ")
    assert plain.index("1 job failed:") < plain.index("Complete log(s): ")


def in_terminal(project, *arguments):
    """Runs Snakemake in a pseudo terminal; returns all that was written there, and the exit status."""
    ours, theirs = pty.openpty()
    variables = project.environment() | {"TERM": "xterm"}
    run = subprocess.Popen(project.command(arguments), cwd=project.work, env=variables, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + 300
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    return seen.decode(errors="replace"), run.wait(timeout=30)
