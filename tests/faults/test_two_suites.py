"""Two Snakemakes at once over the same results."""

import os
import signal

import pytest

from tests.faults.conftest import copy_of
from tests.faults.suite import CONFIG, TARGETS, finish, same
from tests.workflow.conftest import Project


@pytest.mark.faults
def test_a_second_run_in_the_same_folder_is_refused(project, record_property):
    run = project.start_disturbed("prepare_task", "SIGSTOP to all", *CONFIG, "--until", "prepare_task", event=1)
    project.wait_until_disturbed()
    output = project.snakemake(*CONFIG, "--until", "prepare_task", code=1)
    assert "lock" in output
    os.killpg(run.pid, signal.SIGCONT)
    assert run.wait(timeout=3000) == 0
    record_property("outcome", "refused; the first ended well")


@pytest.mark.faults
def test_two_working_folders_over_one_results_folder(project, tmp_path, reference, record_property):
    """Snakemake's lock lies in the working folder, so nothing keeps them apart: both make everything, whole files each."""
    other = copy_of(project, tmp_path / "other")
    project.results.mkdir()
    (other.work / "results").symlink_to(project.results)
    runs = [one.start(*CONFIG, "--", *TARGETS) for one in (project, other)]
    codes = [run.wait(timeout=3000) for run in runs]
    finish(project)
    same(project, reference)
    assert project.half_written() == []
    assert "Nothing to be done" in Project(other.source, other.work).snakemake(*CONFIG, "--", *TARGETS)
    record_property("outcome", f"exit {codes[0]} and {codes[1]}; equal after one more run")
