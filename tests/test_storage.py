"""A job's folders with results in a remote storage."""

import pytest

from pmqbench.errors import ConfigError
from pmqbench.storage import link_results

COPIES = ".snakemake/storage/s3/bucket/prefix"


def test_folders_lead_to_snakemake_s_copies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    merged = tmp_path / COPIES / "results/merged/ta"
    merged.mkdir(parents=True)
    files = [f"{COPIES}/results/merged/ta/model.safetensors", f"{COPIES}/results/data/digits/test.safetensors"]
    for _ in range(2):  # jobs share the links
        link_results(files[1:], [f"{COPIES}/results/leaderboard.csv", files[0]])
    (merged / "manifest.json").write_text("{}")
    assert (tmp_path / "results/merged/ta/manifest.json").read_text() == "{}"
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["data", "merged"]
    with pytest.raises(ConfigError, match=r"results/merged: .*bucket/other/results.*Work in an empty folder"):
        link_results([], [".snakemake/storage/s3/bucket/other/results/merged/ta/model.safetensors"])


def test_a_prefix_may_be_called_results_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link_results([], [".snakemake/storage/s3/bucket/results/mine/results/merged/ta/model.safetensors"])
    assert str((tmp_path / "results/merged").readlink()).endswith("bucket/results/mine/results/merged")


def test_local_results_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkout = "/home/ada/results/PMQ-Bench/leaderboard/entries/mine.json"
    link_results([checkout, "results/suites/mini/leaderboard.csv"], ["results/merged/ta/model.safetensors"])
    assert list(tmp_path.iterdir()) == []
