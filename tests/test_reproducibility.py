"""`pmqbench diff`: what counts as the same, and what is said of the rest."""

import json
import shutil

import pandas as pd
import pytest
import torch

from pmqbench.checkpoints import save_checkpoint
from pmqbench.cli import main
from pmqbench.files import write_json
from pmqbench.reporting.page.render import embedded
from pmqbench.reproducibility.comparison import compare_folders

MADE = {"recipe": {"method": "gptq", "bits": 4}, "code": "abc", "git_commit": "one", "seconds": 1.5, "files": {"a": "1"}}


def write_run(folder, seconds, value=0.5, code="abc", weight=1.0, **texts):
    """A small results folder: JSON, tensors, tables, a page, a Markdown table, a picture."""
    made = MADE | {"seconds": seconds, "code": code, "peak_memory_mb": 100 * seconds}
    write_json(folder / "merged" / "m" / "manifest.json", made | {"sha256": str(seconds)})
    save_checkpoint(folder / "merged" / "m" / "model.safetensors", {"w": torch.tensor([weight, 2.0])}, {"format": "pt"})
    write_json(folder / "evaluations" / "m.json", {"value": value, "n": 10, "costs": {"calibration_seconds": seconds}})
    report = folder / "suites" / "s"
    report.mkdir(parents=True)
    table = pd.DataFrame({"value": [value, None], "seconds": [seconds, 2], "provenance": [json.dumps(made), "{} of text"]})
    table.to_parquet(report / "records.parquet")
    (report / "leaderboard.csv").write_text(f"rank,calibration_seconds,average\n1,{seconds},{value}\n")
    (report / "leaderboard.md").write_text(f"| rank | calibration_seconds |\n| --: | --: |\n| 1 | {seconds} |\n")
    page = {"columns": [{"name": "rank"}, {"name": "calibration_seconds"}], "rows": [["1", str(seconds)]], "command": seconds}
    script = f'<script type="application/json" id="contents">{embedded(page)}</script>'
    (report / "leaderboard.html").write_text(texts.get("page", "<html>") + script)
    (report / "plot.svg").write_text(texts.get("plot", "<svg/>"))
    (folder / "logs").mkdir()
    (folder / "logs" / "job.log").write_text(str(seconds))
    return folder


def verdicts(found):
    return {one.name: one.verdict for one in found}


def test_times_count_in_no_format(tmp_path):
    found = compare_folders(write_run(tmp_path / "a", 1.25), write_run(tmp_path / "b", 7.5))
    assert verdicts(found) == {
        "evaluations/m.json": "same values",
        "merged/m/manifest.json": "same values",
        "merged/m/model.safetensors": "same bytes",
        **{f"suites/s/{name}": "same values" for name in ("leaderboard.csv", "leaderboard.html", "leaderboard.md")},
        "suites/s/plot.svg": "same bytes",
        "suites/s/records.parquet": "same values",
    }


def test_what_differs_is_found_where_it_is(tmp_path):
    changed = {"value": 0.625, "weight": 1.5, "code": "xyz", "page": "<p>", "plot": "<g/>"}
    first, second = write_run(tmp_path / "a", 1.25), write_run(tmp_path / "b", 1.25, **changed)
    found = {one.name.rsplit("/", 1)[-1]: one for one in compare_folders(first, second)}
    assert {name: (one.verdict, one.where, one.largest) for name, one in found.items()} == {
        "m.json": ("different", "value", 0.125),
        "manifest.json": ("other code", "", None),
        "model.safetensors": ("different", "w", 0.5),
        "leaderboard.csv": ("different", "row 0, average", None),
        "leaderboard.html": ("different", "page", None),
        "leaderboard.md": ("same bytes", "", None),
        "plot.svg": ("different", "its bytes", None),
        "records.parquet": ("different", "row 0, value", 0.125),
    }


@pytest.mark.parametrize("extra", [{"third": 3}, {}])
def test_values_that_one_run_lacks_differ(tmp_path, extra):
    first, second = write_run(tmp_path / "a", 1), write_run(tmp_path / "b", 1)
    write_json(second / "evaluations" / "m.json", {"value": 0.5, "n": 10, "costs": {}} | extra if extra else {"value": 0.5})
    assert verdicts(compare_folders(first, second))["evaluations/m.json"] == "different"


def test_the_screen_and_the_status(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    first, second = write_run(tmp_path / "a", 1), tmp_path / "b"
    shutil.copytree(first, second)
    with pytest.raises(SystemExit) as ended:
        main(["diff", str(first), str(second)])
    assert ended.value.code == 0
    assert "All 8 files are the same." in capsys.readouterr().out
    write_json(second / "evaluations" / "m.json", {"value": 0.75, "n": 10})
    (second / "merged" / "m" / "manifest.json").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["diff", str(first), str(second)])
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert "evaluations/m.json: a value differs, by up to 0.25; first at value: 0.5 and 0.75" in shown
    assert f"merged/m/manifest.json: only in {first}" in shown.replace("\n", "")
    assert "2 of 8 files differ." in shown
    with pytest.raises(SystemExit) as ended:
        main(["diff", str(first), str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert "there are no results" in capsys.readouterr().err
