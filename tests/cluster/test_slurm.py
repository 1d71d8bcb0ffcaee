"""The small suite on a real Slurm: whole, and through what clusters do to jobs."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.faults.suite import Disturbed, is_of_suite, outcome, same

pytestmark = pytest.mark.cluster


def ended(slurm, before: int) -> list[tuple[str, str]]:
    """State and memory in MB asked for of the jobs that ended since there were `before`."""
    return [(job["JobState"], re.search(r"mem=(\d+)M", job["Tres"])[1]) for job in slurm.jobs()[before:]]


def only(project: Disturbed, pattern: str) -> Path:
    (found,) = project.results.glob(pattern)
    return found


def made_again(project: Disturbed, pattern: str) -> str:
    """Deletes a file of the results; its path for Snakemake."""
    path = only(project, pattern)
    path.unlink()
    return path.relative_to(project.work).as_posix()


def test_a_suite_through_sbatch_ends_as_a_local_run_does(slurm, through_slurm, undisturbed):
    project, said = through_slurm
    assert outcome(project) == {name: value for name, value in outcome(undisturbed).items() if is_of_suite(name)}
    states = {state for state, _ in ended(slurm, 0)}
    assert states == {"COMPLETED"}
    jobs = int(re.search(r"^total +(\d+)$", said, re.MULTILINE)[1])
    assert len(slurm.jobs()) == jobs - 1  # all but `all` itself
    assert "evaluate_merge" in said  # jobs of several models, of which those of other jobs were there already


def test_a_job_that_runs_out_of_memory_gets_more(slurm, finished, profile, reference):
    before = len(slurm.jobs())
    target = made_again(finished, "evaluations/merged/regmean-*/digits-*.json")
    code, said = finished.run_disturbed("evaluate_model", "take memory", *profile, "--", target, event=0)
    assert code == 0, said
    (first, asked), (second, more) = ended(slurm, before)
    assert (first, second) == ("FAILED", "COMPLETED")
    assert int(more) > 1.5 * int(asked)
    assert finished.results.parent.joinpath(target).exists()
    same_results(finished, reference)


def same_results(project: Disturbed, reference: dict[str, str]) -> None:
    same(project, {name: value for name, value in reference.items() if is_of_suite(name)})


def test_a_refinement_that_the_time_limit_ends_is_resumed(slurm, finished, profile, reference):
    before = len(slurm.jobs())
    target = made_again(finished, "quantized/*/gptq-*/distill-*/seed-0/curve.json")
    once = ("--set-resources", "refine_model:runtime=1", "--retries", "0")
    code, said = finished.run_disturbed("refine_model", "pause", *profile, *once, "--", target, event=2, clock=1e6)
    assert code == 1
    assert [state for state, _ in ended(slurm, before)] == ["TIMEOUT"]
    assert list(finished.results.glob("states/**/*.pt")), said
    finished.snakemake(*profile, "--", target)
    assert "going on from step" in only(finished, "logs/refine_model/**/*.log").read_text()
    same_results(finished, reference)


def test_jobs_of_a_rule_as_an_array(slurm, finished, profile, reference):
    targets = [made_again(finished, f"evaluations/experts/local-{task}-*/*.json") for task in ("digits", "textures")]
    array = ("--slurm-array-jobs", "evaluate_expert", "--jobs", "unlimited")
    said = finished.snakemake(*profile, *array, "--", *targets)
    assert re.search(r"Submitted array job with Snakemake IDs \d+,\d+ .* task IDs are 1-2", said), said
    same_results(finished, reference)


def test_a_run_whose_submitter_was_killed_waits_for_its_jobs(slurm, finished, profile, reference):
    target = made_again(finished, "evaluations/merged/regmean-*/digits-*.json")
    submitter = finished.start_disturbed("evaluate_model", "pause", *profile, "--", target, event=1)
    finished.wait_until_disturbed()
    os.killpg(submitter.pid, signal.SIGKILL)
    submitter.wait()
    finished.unlock()
    refused = finished.snakemake(*profile, "--", target, code=1)
    cancel = re.search(r"Cancel them \((scancel [\d ]+)\)", refused)
    assert cancel, refused
    finished.unlock()
    slurm.run(*cancel[1].split())
    slurm.wait_for(lambda: not slurm.queued(), 60)
    finished.snakemake(*profile, "--", target)
    same_results(finished, reference)
