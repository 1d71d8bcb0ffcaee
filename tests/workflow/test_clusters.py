"""What a cluster asks of the workflow, without one: the process of a job, the profiles, jobs of a killed run."""

import re

import pytest

from pmqbench.workflow.clusters import orphaned


def test_a_job_s_process_finds_its_rule_among_results_that_are_there(edited):
    """As the Slurm plugin starts it, with the whole suite done: a rule that the submitting run had and a new run has not."""
    (model,) = (edited.work / "results/merged").glob("taskarithmetic-*")
    records = sorted((edited.work / f"results/evaluations/merged/{model.name}").iterdir())
    for record in records:
        record.unlink()
    job = ("--target-jobs", f"evaluate_merge:merge={model.name}", "--allowed-rules", "evaluate_merge", "--force", "--nolock")
    said = edited.snakemake("--mode", "remote", *job, "--ignore-incomplete", "--no-hooks", "--configfiles", "tiny.yaml")
    assert [record.exists() for record in records] == [True, True], said
    assert "1 of 1 steps" in said


@pytest.mark.parametrize("profile", ["slurm", "gpu-workstation"])
def test_a_profile_plans_the_suite(fresh, profile):
    options = ("--profile", str(fresh.source / "profiles" / profile), "--config", "batch_jobs=false", "job_threads=3")
    said = fresh.snakemake(*options, "--configfile", "tiny.yaml", "-n")
    calibration = re.search(r"rule calibrate_model:.*?resources: ([^\n]*)", said, re.DOTALL)
    asked = dict(re.findall(r"(\w+)=(\d+)", calibration[1]))
    assert asked["gpu"] == "1"
    assert int(asked["mem_mb"]) > 500
    assert int(asked["runtime"]) >= 10
    threads = re.search(r"threads: (\d+)", calibration[0])
    assert (threads[1] if threads else "1") == {"slurm": "2", "gpu-workstation": "1"}[profile]


def test_only_jobs_of_this_folder_s_runs_are_orphans():
    queue = "7\trule_merge_experts_wildcards_ta\t/work\n8\t(null)\t/work\n9_2\trule_a\t/work\n10\trule_a\t/elsewhere\n"
    assert orphaned(queue, "/work") == ["7", "9_2"]
