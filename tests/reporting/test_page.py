"""The page leaderboard.html, without a browser: what it is told, and that no text of it becomes markup."""

import csv
import json
import re

import numpy as np
import pytest
from snakemake.cli import parse_config

from pmqbench.code_hash import ROOT
from pmqbench.reporting.columns import COLUMNS
from pmqbench.reporting.comparisons import compare
from pmqbench.reporting.page.command import snakemake_command
from pmqbench.reporting.page.contents import joint_contents, read_csv
from pmqbench.reporting.page.definitions import DEFINED, columns
from pmqbench.reporting.page.index import named_files, write_index
from pmqbench.reporting.page.render import render_page
from pmqbench.reporting.tables import comparison_table

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'"


def test_rows_are_those_of_the_csv_and_every_fixed_column_is_explained(report):
    header, rows = read_csv(report.folder / "leaderboard.csv")
    assert report.contents["rows"] == rows
    assert [column["name"] for column in report.contents["columns"]] == header
    assert {"suite", *COLUMNS} <= {column.name for column in DEFINED}
    assert [column["name"] for column in report.contents["columns"] if column["task"]] == list(report.summary.tasks)


def test_a_column_that_nobody_defined_is_shown():
    assert [column["definition"] for column in columns(["rank", "novel"])] == [columns(["rank"])[0]["definition"], ""]


def test_differences_are_those_of_the_comparisons(report):
    pairs = comparison_table(compare(report.summary, "gptq"))
    place = {tuple(row[1:5]): number for number, row in enumerate(report.contents["rows"])}
    assert len(pairs) > 20
    for pair in pairs.to_dict("records"):
        own = (pair["merge"], pair["quantizer"], str(pair["bits"]), pair["group_size"])
        full = (pair["merge"], "full precision", "32", "-")
        peer = full if pair["reference"] == "full precision" else (own[0], pair["reference"], *own[2:])
        first, second = place[own], place[peer]
        sign = 1 if second < first else -1
        found = report.contents["pairs"][max(first, second)][min(first, second)]
        low, high = sorted(sign * end for end in found[1:3])
        expected = [float(pair[name]) for name in ("difference", "ci_low", "ci_high")]
        assert [sign * found[0], low, high] == pytest.approx(expected, abs=1e-9)
        assert found[3] == pytest.approx(float(pair["p"]), rel=0.006)


def test_details_are_the_records(report):
    contents = report.contents
    for row, detail in zip(contents["rows"], contents["details"], strict=True):
        named = dict(zip((column["name"] for column in contents["columns"]), row, strict=True))
        for task in detail["tasks"]:
            assert f"{task['value']:.2f}" == named[task["task"]]
            assert np.mean(list(task["seeds"].values())) == pytest.approx(task["value"], abs=0.011)
            assert task["low"] <= task["value"] <= task["high"]
        assert len(detail["tasks"][0]["seeds"]) == int(named["seeds"])
        calibrated = named["quantizer"] not in ("full precision", "rtn")
        assert bool(detail["layers"]) == calibrated
        assert all(len(pair) == 2 for pair in detail["layers"])
        assert {file["seed"] for file in detail["files"]} == ({0, 1, 2} if calibrated else {None})
        quantized = named["quantizer"] != "full precision"
        assert ("merge.method" in detail["recipe"]) == quantized


def test_no_text_becomes_markup(report):
    contents = {**report.contents, "report": HOSTILE, "sentence": HOSTILE, "warnings": [{"where": HOSTILE, "message": HOSTILE}]}
    contents["rows"] = [[HOSTILE, *row[1:]] for row in contents["rows"]]
    page = render_page(contents)
    assert "<img" not in page
    assert page.count("</script>") == render_page(report.contents).count("</script>") == 2
    assert json.loads(re.search(r'id="contents">(.*?)</script>', page, re.DOTALL)[1]) == contents


def test_the_page_names_no_other_site(report):
    page = render_page(report.contents)
    addresses = set(re.findall(r"[a-z]+://[^\s\"'`<)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "default-src 'none'" in page


def test_the_page_of_all_suites_links_to_theirs(report, tasks):
    header, rows = read_csv(report.folder / "leaderboard.csv")
    table = ["suite", *header], [["mini", *row] for row in rows]
    contents = joint_contents(table, {"mini": "suites/mini/leaderboard.html"}, [])
    assert contents["references"] == report.contents["references"] == [len(rows) - 2, len(rows) - 1]
    page = render_page(contents)
    assert 'href="suites/mini/leaderboard.html"' in page
    assert "index.csv" not in page
    assert 'href="leaderboard.md"' in page
    own = render_page(report.contents)
    assert 'href="report.html"' in own
    assert f"the model does on {', '.join(tasks)}, how large" in own
    assert "the model does, how large" in page


def test_index_leads_from_rows_to_files(tmp_path, report):
    write_index(report.files, tmp_path / "index.json", tmp_path / "index.csv")
    entries = json.loads((tmp_path / "index.json").read_text())
    with open(tmp_path / "index.csv", newline="") as handle:
        lines = list(csv.DictReader(handle))
    rows = {tuple(row[1:5]) for row in report.contents["rows"]}
    assert {(line["merge"], line["quantizer"], line["bits"], line["group_size"]) for line in lines} == rows
    gptq = [entry for entry in entries if (entry["merge"], entry["quantizer"], entry["bits"]) == ("ta-0.3", "gptq", 4)]
    assert [(entry["seed"], entry["folder"]) for entry in gptq] == [(seed, f"q/ta-0.3/gptq-4/{seed}") for seed in (0, 1, 2)]
    line = lines[entries.index(gptq[0])]
    assert (line["seed"], line["folder"], line["records"]) == ("0", "q/ta-0.3/gptq-4/0", "records/ta-0.3/gptq-4/0")
    assert [entry["exported"] for entry in entries if entry["merge"] == "pre-trained"] == [None]


def test_names_of_models_are_those_of_leaderboards():
    base = {"merge": None, "quantizer": None, "bits": 32, "group_size": None, "seed": None, "folder": "", "records": ["r"]}
    grouped = {"kind": "quantized", "merge": "ta", "quantizer": "rtn", "bits": 4, "group_size": 64}
    models = [{"kind": "base"}, {"kind": "expert"}, {"kind": "merged", "merge": "ta"}, grouped, {**grouped, "group_size": None}]
    table = named_files([{**base, "exported": None, **model} for model in models])
    assert table[["merge", "quantizer", "group_size"]].to_numpy().tolist() == [
        ["pre-trained", "full precision", "-"],
        ["individual experts", "full precision", "-"],
        ["ta", "full precision", "-"],
        ["ta", "rtn", "64"],
        ["ta", "rtn", "channel"],
    ]


def test_a_command_names_what_the_run_was_called_with(tmp_path, monkeypatch):
    """Relative to the folder it runs in; changes of the config arrive as they were."""
    changes = parse_config(["bits=[2]", "strict=True", "merges={ta: {method: wudi, eps: 0.3}}", "targets=", "suite=new"])
    monkeypatch.chdir(ROOT)
    assert snakemake_command(["a.yaml"], {}) == ["snakemake", "--cores", "all", "--configfile", "a.yaml", "--"]
    monkeypatch.chdir(tmp_path)
    command = snakemake_command(["a.yaml", "/b.yaml"], changes)
    start = [
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--cores",
        "all",
        "--configfile",
        "a.yaml",
        "/b.yaml",
        "--config",
    ]
    assert command[: len(start)] == start
    assert parse_config(command[len(start) : -1]) == changes
