"""Kills and a full disk in every stage, one after the other in one suite, which ends as if nothing had happened.

Each stage is reached three times: the disk is full and its job fails; its job is killed while it writes; Snakemake is killed
and the job lives on. It goes on while the next run works, or after it, so that it writes over what the next run has made.
"""

import shutil
import signal

import pytest

from tests.faults.conftest import copy_of
from tests.faults.suite import CONFIG, TARGETS, same

STAGES = {  # rule: its script, and the file, counted from 1, that it is disturbed at
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
    "evaluate_merge": ("evaluate_model", 2),
    "collect_records": ("collect_records", 2),
    "collect_warnings": ("collect_warnings", 1),
    "rank_models": ("rank_models", 2),
    "write_page": ("write_page", 2),
    "plot_comparison": ("plot_comparison", 3),
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


@pytest.mark.faults
@pytest.mark.parametrize("rule", STAGES)
def test_a_full_disk_a_killed_job_and_a_killed_run_in(rule, pestered, record_property):
    script, event = STAGES[rule]
    until = (*CONFIG, "--until", rule, "--", *TARGETS)
    late = list(STAGES).index(rule) % 2 == 0  # of the orphan that the stage before left behind
    left = pestered.half_written()
    if not late:
        pestered.let_go()
    code, screen = pestered.run_disturbed(script, "fill the disk", *until, event=event - 1)
    pestered.make_space()
    pestered.let_go()
    pestered.wait_until_alone()
    assert code == 1
    assert "no space left" in screen.lower()
    assert set(pestered.half_written()) <= set(left)

    code, screen = pestered.run_disturbed(script, "kill job", *until, event=event)
    assert code == 1
    assert "SIGKILL" in screen
    pestered.wait_until_alone()

    code, _ = pestered.run_disturbed(script, "kill Snakemake", *until, event=event)
    assert code == -signal.SIGKILL
    assert pestered.processes() != []  # the job lives on
    pestered.unlock()
    record_property("outcome", "three times resumed")


@pytest.mark.faults
def test_after_all_that_the_results_are_the_undisturbed_ones(pestered, reference, record_property):
    pestered.snakemake(*CONFIG, "--", *TARGETS)
    pestered.let_go()
    pestered.wait_until_alone()
    same(pestered, reference)
    assert "Nothing to be done" in pestered.snakemake(*CONFIG, "--", *TARGETS)
    left = pestered.half_written()
    assert len(left) <= 2 * len(STAGES)  # of killed jobs only
    record_property("outcome", f"equal; {len(left)} temporary files of killed jobs left")


@pytest.mark.faults
def test_a_killed_refinement_goes_on_from_its_last_state(finished, reference, record_property):
    """The clock goes so fast that a state is written at every step; the second is cut in half by a kill."""
    (folder,) = finished.results.glob("quantized/*/*/distill-*")
    shutil.rmtree(folder)
    code, _ = finished.run_disturbed("refine_model", "kill all", *CONFIG, event=2, clock=1e6)
    assert code == -signal.SIGKILL
    assert len(list(finished.results.rglob("states/**/*.pt"))) == 1
    finished.unlock()
    finished.snakemake(*CONFIG, "--", *TARGETS)
    (log,) = finished.results.glob("logs/refine_model/**/*.log")
    assert "going on from step 1" in log.read_text()
    same(finished, reference)
    assert list(finished.results.rglob("states/**/*.pt")) == []
    record_property("outcome", "went on from step 1; equal")
