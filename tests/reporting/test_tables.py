import csv
import io
import re

import pandas as pd
import pytest
from rich.console import Console

from pmqbench.errors import DataError
from pmqbench.reporting.leaderboard import BEGIN, END, excerpt, join_suites, refresh_block, write_leaderboards
from pmqbench.reporting.statistics import compare, summarise
from pmqbench.reporting.tables import leaderboard, write_tables
from pmqbench.reporting.terminal import print_leaderboard, show

COLUMNS = "rank,merge,quantizer,bits,group_size,seeds,average,ci_low,ci_high,normalised,size_mb,compression"
COLUMNS += ",digits,textures,signs,landuse"


@pytest.fixture(scope="module")
def summary(frame, tasks):
    return summarise(frame(n=100), tasks)


@pytest.fixture
def written(tmp_path, summary):
    names = {"csv": "leaderboard.csv", "markdown": "leaderboard.md", "comparisons": "comparisons.csv"}
    write_tables(summary, compare(summary, "gptq"), **{key: tmp_path / name for key, name in names.items()})
    return tmp_path


def test_csv(written, summary):
    lines = (written / "leaderboard.csv").read_text().splitlines()
    assert lines[0] == COLUMNS
    rows = list(csv.DictReader(lines))
    # 3 merges x (full precision + 5 quantizers x 2 bits), pre-trained, experts.
    assert len(rows) == 3 * 11 + 2
    ranked = [row for row in rows if row["rank"]]
    averages = [float(row["average"]) for row in ranked]
    assert averages == sorted(averages, reverse=True)
    assert [int(row["rank"]) for row in ranked] == [1 + sum(other > average for other in averages) for average in averages]
    assert {row["seeds"] for row in ranked if row["quantizer"] in ("rtn", "full precision")} == {"1"}
    assert {row["seeds"] for row in ranked if row["quantizer"] == "gptq"} == {"3"}
    assert {(row["bits"], row["group_size"]) for row in ranked if row["quantizer"] == "full precision"} == {("32", "-")}
    assert {row["group_size"] for row in ranked if row["quantizer"] == "gptq"} == {"channel"}
    for row in rows:
        assert float(row["ci_low"]) <= float(row["average"]) <= float(row["ci_high"])
        mean = sum(float(row[task]) for task in summary.tasks) / 4
        assert float(row["average"]) == pytest.approx(mean, abs=0.011)
        assert all(len(row[column].split(".")[1]) == 2 for column in ("average", "ci_low", "normalised", "size_mb", "digits"))


def test_reference_rows_come_last_without_rank(written):
    rows = list(csv.DictReader((written / "leaderboard.csv").read_text().splitlines()))
    assert [row["merge"] for row in rows[-2:]] == ["individual experts", "pre-trained"]
    assert [row["rank"] for row in rows].count("") == 2
    assert rows[-2]["normalised"] == "100.00"
    assert (rows[-2]["size_mb"], rows[-1]["size_mb"]) == ("19.20", "4.80")  # four experts, one base
    assert (rows[-2]["compression"], rows[-1]["compression"]) == ("0.25", "1.00")
    assert all(abs(float(row["compression"]) - 4.8 / float(row["size_mb"])) < 0.02 for row in rows)


def test_ties_share_a_rank(summary):
    entries = summary.entries.copy()
    entries.loc[entries["kind"].isin(["merged", "quantized"]), "average"] = [0.9, 0.80001, 0.8, *[0.5] * 30]
    tied = type(summary)(**(vars(summary) | {"entries": entries}))
    assert list(leaderboard(tied)["rank"][:5]) == ["1", "2", "2", "4", "4"]


def test_comparisons_and_page(written):
    with open(written / "comparisons.csv", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0])[:5] == ["merge", "bits", "group_size", "quantizer", "reference"]
    assert {row["verdict"] for row in rows} <= {"better", "worse", "no clear difference"}
    strong = [row for row in rows if (row["quantizer"], row["reference"]) == ("epmq-expert", "gptq")]
    assert {row["verdict"] for row in strong} == {"better"}
    page = (written / "leaderboard.md").read_text()
    assert page.count("| ") > 35
    assert "bootstrap" in page
    assert "epmq-expert" in page


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_terminal(written, columns):
    out = io.StringIO()
    screen = Console(file=out, width=columns, force_terminal=True, color_system=None)
    print_leaderboard(written / "leaderboard.csv", ["plots/a.png"], screen)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert max(map(len, lines)) <= min(100, columns)
    assert "…" not in out.getvalue()
    assert sum("epmq-expert" in line for line in lines) == 6
    assert lines[-1].strip() == "plots/a.png"


def test_terminal_names_the_files_that_exist(written, capsys):
    show(written)
    assert {"leaderboard.md", "comparisons.csv"} <= {
        line.strip().rsplit("/", 1)[-1] for line in capsys.readouterr().out.splitlines()
    }


def test_joint_leaderboard(tmp_path, written):
    joint = join_suites({"mini": written / "leaderboard.csv", "other": written / "leaderboard.csv"})
    assert list(joint.columns) == ["suite", *COLUMNS.split(",")[:12]]
    assert len(joint) == 2 * 35
    write_leaderboards(joint, tmp_path / "all.csv", tmp_path / "all.md")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "all.csv", dtype=str, keep_default_na=False), joint)
    text = excerpt(joint)
    assert text.count("**") == 4
    assert "the best 10 of 33 models" in text
    assert text.count("pre-trained") == 2
    with pytest.raises(DataError, match="no suite"):
        join_suites({})


def test_readme_block(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nEnd.\n")
    assert refresh_block(readme, "| new |\n")
    assert readme.read_text() == f"# Title\n\n{BEGIN}\n| new |\n{END}\n\nEnd.\n"
    before = readme.stat().st_mtime_ns
    assert not refresh_block(readme, "| new |")
    assert readme.stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["no markers", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}{END}{END}"])
def test_readme_without_markers(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(DataError, match="lines <!-- leaderboard:begin -->"):
        refresh_block(readme, "x")
    assert readme.read_text() == text
