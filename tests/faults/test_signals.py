"""A run that is asked to stop leaves no process, no lock and nothing half written, and says so; one that is held goes on."""

import os
import signal
import time

import pytest

from tests.faults.suite import CONFIG

STOPS = {
    "SIGINT to all": "stopped by SIGINT",  # Ctrl-C
    "SIGTERM to all": "stopped by SIGTERM",  # a cluster's time limit, a shutdown
    "SIGINT to Snakemake": "Terminating processes on user request",
    "SIGTERM to Snakemake": "Will exit after finishing currently running jobs",
}


@pytest.mark.parametrize(
    "action",
    ["SIGTERM to all", *(pytest.param(action, marks=pytest.mark.faults) for action in STOPS if action != "SIGTERM to all")],
)
def test_stops_clean_after(action, project, record_property):
    code, screen = project.run_disturbed("fetch_base", action, *CONFIG, "--until", "fetch_base", event=2)
    assert code == 1
    assert STOPS[action] in screen
    assert "Traceback" not in screen
    project.wait_until_alone()
    assert project.half_written() == []
    project.snakemake(*CONFIG, "--until", "fetch_base")  # no lock is left
    assert len(list(project.results.glob("experts/*/manifest.json"))) == 1
    record_property("outcome", "stopped at once" if "all" in action else "stopped when the running job was done")


@pytest.mark.faults
def test_a_closed_terminal_ends_jobs_clean_and_leaves_a_lock(project, record_property):
    code, _ = project.run_disturbed("fetch_base", "SIGHUP to all", *CONFIG, "--until", "fetch_base", event=2)
    assert code == -signal.SIGHUP
    project.wait_until_alone()
    assert project.half_written() == []
    (log,) = project.results.glob("logs/fetch_base/*.log")
    assert "stopped by SIGHUP" in log.read_text()
    project.unlock()
    project.snakemake(*CONFIG, "--until", "fetch_base")
    record_property("outcome", "jobs ended clean; went on after unlocking")


@pytest.mark.faults
def test_a_held_run_goes_on(project, record_property):
    run = project.start_disturbed("fetch_base", "SIGSTOP to all", *CONFIG, "--until", "fetch_base", event=2)
    project.wait_until_disturbed()
    time.sleep(3)
    assert run.poll() is None
    os.killpg(run.pid, signal.SIGCONT)
    assert run.wait(timeout=3000) == 0
    assert len(list(project.results.glob("experts/*/manifest.json"))) == 1
    record_property("outcome", "went on")
