import csv
import re

import pandas as pd
import pytest

from pmqbench.errors import DataError
from pmqbench.files import write_json
from pmqbench.reporting.comparisons import compare_all
from pmqbench.reporting.leaderboard import join_suites, write_leaderboards
from pmqbench.reporting.tables import comparison_table, leaderboard, p_value, two_decimals, write_tables
from pmqbench.reporting.verdicts import clear_verdicts, verdict_sentence
from tests.reporting.conftest import pair, screen

COLUMNS = "rank,merge,quantizer,bits,group_size,seeds,average,ci_low,ci_high,normalised,size_mb,compression"
COLUMNS += ",calibration_seconds,samples,chosen"
COLUMNS += ",standard_error,tied_rank,above_p,to_reference,to_reference_p,to_best,to_best_p"
COLUMNS += ",worst,worst_task,win_rate,average_rank,improvability"
COLUMNS += ",digits,textures,signs,landuse"


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
        assert row["seeds"] == "1" or row["samples"] == "48"
        assert all(len(row[column].split(".")[1]) == 2 for column in ("average", "ci_low", "normalised", "size_mb", "digits"))


def test_reference_rows_come_last_without_rank(written):
    rows = list(csv.DictReader((written / "leaderboard.csv").read_text().splitlines()))
    assert [row["merge"] for row in rows[-2:]] == ["individual experts", "pre-trained"]
    assert [row["rank"] for row in rows].count("") == 2
    assert rows[-2]["normalised"] == "100.00"
    assert (rows[-2]["size_mb"], rows[-1]["size_mb"]) == ("19.20", "4.80")  # four experts, one base
    assert (rows[-2]["compression"], rows[-1]["compression"]) == ("0.25", "1.00")
    assert all(abs(float(row["compression"]) - 4.8 / float(row["size_mb"])) < 0.02 for row in rows)


def test_costs_by_hand(written):
    """As in conftest: 1.5 s a merge, 10 s a choice, and the quantizer's own, whose seeds take 0, 0.1 and 0.2 s more."""
    rows = csv.DictReader((written / "leaderboard.csv").read_text().splitlines())
    shown = {(row["merge"], row["quantizer"], row["bits"]): row for row in rows}

    def costs(*key):
        return tuple(shown[key][column] for column in ("calibration_seconds", "samples", "chosen"))

    assert costs("ta-0.3", "full precision", "32") == ("1.5", "0", "-")
    assert costs("ta-tuned", "full precision", "32") == ("11.5", "0", "scaling")
    assert costs("ta-0.3", "rtn", "4") == ("2.0", "0", "-")
    assert costs("ta-0.3", "epmq", "3") == ("9.6", "48", "-")
    assert costs("ta-tuned", "epmq-expert", "3") == ("27.6", "48", "scaling")
    for reference in ("individual experts", "pre-trained"):
        assert costs(reference, "full precision", "32") == ("0.0", "0", "-")


def test_page_explains_every_column(written):
    page = (written / "leaderboard.md").read_text()
    explained = set(re.findall(r"\*(\w+)\*", page))
    assert set(COLUMNS.split(",")[6:-4]) <= explained


def test_ties_share_a_rank(summary):
    entries = summary.entries.copy()
    entries.loc[entries["kind"].isin(["merged", "quantized"]), "average"] = [0.9, 0.80001, 0.8, *[0.5] * 30]
    tied = type(summary)(**(vars(summary) | {"entries": entries}))
    assert list(leaderboard(tied, compare_all(tied, "gptq"))["rank"][:5]) == ["1", "2", "2", "4", "4"]


def test_comparisons_and_page(written):
    with open(written / "comparisons.csv", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0])[:6] == ["merge", "bits", "group_size", "quantizer", "against", "reference"]
    assert {row["verdict"] for row in rows} <= {"better", "worse", "no clear difference"}
    kinds = [row["against"] for row in rows]
    # 3 merges x 4 quantizers x 2 bits, 3 x 5 x 2, and all 33 ranked models but the best.
    assert [kinds.count(kind) for kind in ("reference", "full precision", "best", "row above")] == [24, 30, 32, 32]
    strong = [row for row in rows if row["against"] == "reference" and row["quantizer"] == "epmq-expert"]
    assert "better" in {row["verdict"] for row in strong} <= {"better", "no clear difference"}
    assert all(float(row["p"]) < 0.05 for row in strong)
    for row in rows:
        low, high, p, corrected = (float(row[column]) for column in ("ci_low", "ci_high", "p", "p_holm"))
        assert p <= corrected
        assert (p < 0.05) == (low > 0 or high < 0) or 0 in (low, high)
        assert (corrected < 0.05) == (row["verdict"] != "no clear difference")
        assert {"better": low >= 0, "worse": high <= 0}.get(row["verdict"], True), row
        assert float(row["detectable"]) == pytest.approx((high - low) / 2, abs=0.011)
    page = (written / "leaderboard.md").read_text()
    assert page.count("| ") > 35
    assert "bootstrap" in page
    assert "epmq-expert" in page


def test_no_negative_zero(tmp_path, summary):
    """Differences of a hundredth of a hundredth of a point, in every place that shows them."""
    assert [p_value(value) for value in (0.049_94, 0.049_96, 0.05, 1e-9, float("nan"))] == [
        "0.0499",
        "0.0499",
        "0.05",
        "1e-09",
        "",
    ]
    assert [two_decimals(value) for value in (-0.001, -0.0, 0.001, -0.005001)] == ["0.00", "0.00", "0.00", "-0.01"]
    pairs = compare_all(summary, "gptq").head(2).assign(difference=-1e-6, ci_low=-2e-6, ci_high=-0.0, se_seeds=float("nan"))
    table = comparison_table(pairs)
    assert set(table["difference"]) == set(table["ci_low"]) == set(table["ci_high"]) == {"0.00"}
    assert set(table["se_seeds"]) == {""}
    barely = summary.entries.assign(average=-1e-6, ci_low=-1e-6, ci_high=0.0)
    paths = {key: tmp_path / key for key in ("csv", "markdown", "comparisons", "mcnemar")}
    write_tables(type(summary)(**(vars(summary) | {"entries": barely})), pairs, [], **paths)
    paths["csv"].rename(tmp_path / "leaderboard.csv")
    paths["comparisons"].rename(tmp_path / "comparisons.csv")
    write_json(tmp_path / "warnings.json", [])
    files = [tmp_path / name for name in ("leaderboard.csv", "markdown", "comparisons.csv")]
    shown = [*(path.read_text() for path in files), "\n".join(screen(tmp_path))]
    assert all("0.0" in text for text in shown)
    assert not [text for text in shown if re.search(r"-0\.0+(?!\d)", text)]


def test_verdict_sentence():
    unclear = "no clear difference"
    four = [
        pair("ta", "gptq", "worse", reference="full precision"),
        pair("ta", "epmq", "better"),
        pair("ties", "epmq", "better"),
        pair("ta", "rtn", "worse"),
        pair("ties", "rtn", unclear),
        pair("ta", "awq", unclear),
    ]
    said = "better: epmq (every merge); worse: rtn (ta); no clear difference: rtn (ties), awq (ta)"
    assert verdict_sentence(four) == f"Against gptq at 4 bits, {said}."
    brief = "better: epmq (every merge); worse: rtn (ta)"
    assert clear_verdicts(four) == f"Against gptq at 4 bits, {brief}. All else: {unclear}."
    two = [one | {"bits": "2"} for one in four]
    assert verdict_sentence(four + two) == f"Against gptq at 4 bits and 2 bits, {said}."
    grouped = [pair("ta", "rtn", unclear, group="64")]
    assert verdict_sentence(four + grouped) == (
        f"Against gptq at 4 bits, {said}. At 4 bits in groups of 64, better: none; worse: none; no clear difference: rtn (ta)."
    )
    assert verdict_sentence(four[:1]) == clear_verdicts(four[:1]) == ""


def test_joint_leaderboard(tmp_path, written):
    joint = join_suites({"mini": written, "other": written}, [], tmp_path)
    names = COLUMNS.split(",")[:-4]
    assert list(joint.table.columns) == ["suite", *names[:5], "origin", *names[5:], "submitted_by", "link", "entry"]
    assert len(joint.table) == 2 * 35
    assert set(joint.table["origin"]) == {"here"}
    write_leaderboards(joint, tmp_path / "all.csv", tmp_path / "all.md")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "all.csv", dtype=str, keep_default_na=False), joint.table)
    with pytest.raises(DataError, match="no suite"):
        join_suites({}, [], tmp_path)
