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
        link_results([*files, f"{COPIES}/results/leaderboard.csv"])
    (merged / "manifest.json").write_text("{}")
    assert (tmp_path / "results/merged/ta/manifest.json").read_text() == "{}"
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["data", "merged"]
    with pytest.raises(ConfigError, match=r"results/merged: .*bucket/other/results.*Work in an empty folder"):
        link_results([".snakemake/storage/s3/bucket/other/results/merged/ta/model.safetensors"])


def test_local_results_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link_results(["results/merged/ta/model.safetensors", "leaderboard/entries/mine.json"])
    assert list(tmp_path.iterdir()) == []
