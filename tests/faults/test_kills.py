"""Kills and a full disk in every stage, one after the other in one suite, which ends as if nothing had happened.

Each stage is reached three times: the disk is full and its job fails; its job is killed while it writes; Snakemake is killed
and the job lives on. It goes on while the next run works, or after it, so that it writes over what the next run has made.
"""

import shutil
import signal

import pytest

from pmqbench.integrity import verify
from tests.faults.conftest import copy_of
from tests.faults.suite import CONFIG, TARGETS, finish, same, until

STAGES = {  # a rule: its script, and the file, counted from 1, that it is disturbed at
    "prepare_task": ("prepare_task", 2),
    "fetch_base": ("fetch_base", 2),
    "build_heads": ("build_heads", 2),
    "fetch_expert": ("fetch_expert", 2),
    "evaluate_expert": ("evaluate_model", 1),
    "check_experts": ("check_experts", 1),
    "tune_scaling": ("tune_scaling", 1),
    "merge_experts": ("merge_experts", 2),
    "calibrate_merge": ("calibrate_merge", 2),
    "quantize_model": ("quantize_model", 2),
    "tune_quantizer": ("tune_quantizer", 1),
    "calibrate_seeds": ("quantize_model", 3),
    "refine_model": ("refine_model", 4),
    "evaluate_model": ("evaluate_model", 1),
    "collect_records": ("collect_records", 2),
    "collect_warnings": ("collect_warnings", 1),
    "rank_models": ("rank_models", 2),
    "write_page": ("write_page", 2),
    "compare_published": ("compare_published", 2),
    "plot_comparison": ("plot_comparison", 3),
    "answer_ablations": ("answer_ablations", 2),
    "track_runs": ("track_runs", 2),
    "join_leaderboards": ("join_leaderboards", 2),
    "export_model": ("export_model", 2),
}


@pytest.fixture(scope="module")
def pestered(small, tmp_path_factory, small_disk):
    """One suite for all stages, its results on a small disk."""
    project = copy_of(small, tmp_path_factory.mktemp("pestered"))
    project.results.mkdir()
    small_disk(project.results, megabytes=64)
    yield project
    project.end()


def fill_the_disk(project, rule):
    """A run whose job finds the disk full, before its n-th file: it says so, and leaves nothing half written."""
    script, event = STAGES[rule]
    left = set(project.half_written())
    code, screen = project.run_disturbed(script, "fill the disk", *until(rule), event=event - 1)
    project.make_space()
    project.let_go()
    project.wait_until_alone()
    assert code == 1
    assert "no space left" in screen.lower()
    assert set(project.half_written()) <= left


def kill(project, rule):
    """A run whose job is killed, and one that is killed itself while its job lives on; unlocked afterwards."""
    script, event = STAGES[rule]
    code, screen = project.run_disturbed(script, "kill job", *until(rule), event=event)
    assert code == 1
    assert "killed" in screen
    project.wait_until_alone()
    code, _ = project.run_disturbed(script, "kill Snakemake", *until(rule), event=event)
    assert code == -signal.SIGKILL
    assert project.processes() != []  # the job lives on
    project.unlock()


def test_a_killed_job_and_a_killed_run(project):
    kill(project, "fetch_base")
    project.let_go()
    project.snakemake(*until("fetch_base"))
    project.wait_until_alone()
    verify(project.results.glob("experts/*/*"))
    if project.half_written():  # of the killed job
        assert "orphaned" in project.doctor(code=1)
        project.doctor("--remove")
    assert project.half_written() == []


@pytest.mark.faults
def test_a_full_disk(project, small_disk):
    project.results.mkdir()
    small_disk(project.results, megabytes=8)
    fill_the_disk(project, "fetch_base")
    project.snakemake(*until("fetch_base"))
    assert project.half_written() == []


@pytest.mark.faults
@pytest.mark.parametrize("rule", STAGES)
def test_a_full_disk_a_killed_job_and_a_killed_run_in(rule, pestered, record_property):
    if list(STAGES).index(rule) % 2:  # the orphan of the stage before goes on now; else after this run
        pestered.let_go()
    fill_the_disk(pestered, rule)
    kill(pestered, rule)
    record_property("outcome", "three times resumed")


@pytest.mark.faults
def test_after_all_that_the_results_are_the_undisturbed_ones(pestered, reference, record_property):
    finish(pestered)
    pestered.let_go()
    pestered.wait_until_alone()
    same(pestered, reference)
    assert "Nothing to be done" in pestered.snakemake(*CONFIG, "--", *TARGETS)
    left = pestered.half_written()
    assert 0 < len(left) <= 2 * len(STAGES)  # of killed jobs only
    assert "orphaned" in pestered.doctor(code=1)
    assert "damaged" not in pestered.doctor("--remove", code=None)
    assert "orphaned" not in pestered.doctor(code=None)  # what it has to say of so small a disk is true
    assert pestered.half_written() == []
    record_property("outcome", f"equal; {len(left)} temporary files of killed jobs, which doctor found and removed")


@pytest.mark.faults
def test_a_killed_refinement_goes_on_from_its_last_state(finished, reference, record_property):
    """The clock goes so fast that a state is written at every step; the second is cut in half by a kill."""
    (folder,) = finished.results.glob("quantized/*/*/distill-*")
    shutil.rmtree(folder)
    target = f"{folder.relative_to(finished.work)}/seed-0/curve.json"
    code, _ = finished.run_disturbed("refine_model", "kill all", *CONFIG, "--", target, event=2, clock=1e6)
    assert code == -signal.SIGKILL
    assert len(list(finished.results.rglob("states/**/[!.]*.pt"))) == 1
    finished.unlock()
    finished.snakemake(*CONFIG, "--", *TARGETS, target)
    (log,) = finished.results.glob("logs/refine_model/**/*.log")
    assert "going on from step 1" in log.read_text()
    same(finished, reference)
    assert list(finished.results.rglob("states/**/[!.]*.pt")) == []
    record_property("outcome", "went on from step 1; equal")
