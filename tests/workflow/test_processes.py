"""A suite whose jobs on calibration samples run in two processes each: what comes out is what one process makes."""

import csv
import json

import pytest

pytestmark = pytest.mark.cluster

SPREAD = ("gptq", "awq", "epmq")


@pytest.fixture(scope="module")
def spread(fresh, tmp_path_factory):
    project = fresh.copy(tmp_path_factory.mktemp("spread"))
    project.snakemake("--configfile", "tiny.yaml", "--config", "processes=2")
    return project


def test_models_are_the_same_files(done, spread):
    """Refined ones aside, whose gradients are added up in another order."""
    files = sorted(path.relative_to(done.work) for path in done.work.glob("results/quantized/*/*/**/packed.safetensors"))
    assert len(files) == 18
    same = [path for path in files if (done.work / path).read_bytes() == (spread.work / path).read_bytes()]
    assert [path for path in files if path not in same] == [path for path in files if "distill" in str(path)]
    assert all((spread.work / path).exists() for path in files)


def test_manifests_tell_of_the_processes(spread):
    for path in spread.work.glob("results/quantized/**/manifest.json"):
        method = path.relative_to(spread.work / "results/quantized").parts[1].split("-")[0]
        manifest = json.loads(path.read_text())
        assert (manifest["processes"], manifest["threads"]) == (2 if method in SPREAD else 1, 1), path
    assert not list(spread.work.glob("results/states/**/*.pt"))


def test_the_leaderboard_is_the_same(done, spread):
    def numbers(project):
        with open(project.work / "results/suites/tiny/leaderboard.csv", newline="") as file:
            return [{key: value for key, value in row.items() if "seconds" not in key} for row in csv.DictReader(file)]

    assert numbers(spread) == numbers(done)
