import csv
import io
import re

import pandas as pd
import pytest
from rich.console import Console

from pmqbench.errors import DataError
from pmqbench.files import write_json
from pmqbench.reporting import readme
from pmqbench.reporting.comparisons import compare_all
from pmqbench.reporting.leaderboard import join_suites, write_leaderboards
from pmqbench.reporting.readme import BEGIN, END, excerpt, refresh_block
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.tables import comparison_table, leaderboard, markdown_table, p_value, two_decimals, write_tables
from pmqbench.reporting.terminal import best_rows, show
from pmqbench.reporting.verdicts import clear_verdicts, marked_rank, read_pairs, verdict_sentence

COLUMNS = "rank,merge,quantizer,bits,group_size,seeds,average,ci_low,ci_high,normalised,size_mb,compression"
COLUMNS += ",calibration_seconds,samples,chosen"
COLUMNS += ",standard_error,tied_rank,above_p,to_reference,to_reference_p,to_best,to_best_p"
COLUMNS += ",worst,worst_task,win_rate,average_rank,improvability"
COLUMNS += ",digits,textures,signs,landuse"


@pytest.fixture(scope="module")
def summary(frame, tasks):
    return summarise(frame(n=100), tasks)


def write_report(folder, summary, warnings=()):
    names = {"csv": "leaderboard.csv", "markdown": "leaderboard.md", "comparisons": "comparisons.csv", "mcnemar": "mcnemar.csv"}
    paths = {key: folder / name for key, name in names.items()}
    write_tables(summary, compare_all(summary, "gptq"), warnings, **paths)
    write_json(folder / "warnings.json", list(warnings))
    return folder


@pytest.fixture
def written(tmp_path, summary):
    return write_report(tmp_path / "mini", summary)


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


def screen(report, columns=100, every=False):
    """The lines of a terminal of that width."""
    out = io.StringIO()
    show(report, every, Console(file=out, width=columns, force_terminal=True, color_system=None))
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_terminal(written, columns):
    lines = screen(written, columns)
    assert max(map(len, lines)) <= min(100, columns)
    assert 20 <= len(lines) <= 22
    rows = list(csv.DictReader((written / "leaderboard.csv").read_text().splitlines()))
    shown = [line.split() for line in lines[2:] if " – " in line]
    ranked = len(shown) - 2
    assert ranked >= 7
    best = [*rows[:ranked], *rows[-2:]]  # the best of each width is among them
    assert [words[0] for words in shown] == [marked_rank(row) or row["merge"].split()[0] for row in best]
    for words, row in zip(shown, best, strict=True):
        assert row["average"] + ("*" if "tuned" in row["merge"] else "") in words
        assert columns == 80 or row["calibration_seconds"] in words
    assert f"{33 - ranked} more models in the files below; `make show`: all." in lines
    assert "Against gptq at 3 bits, better: " in " ".join(lines)
    assert lines[-1].endswith("comparisons.csv")


def test_terminal_shows_all_rows_when_asked(written):
    lines = screen(written, every=True)
    rows = list(csv.DictReader((written / "leaderboard.csv").read_text().splitlines()))
    shown = [line.split()[0] for line in lines if re.search(r" \d+\.\d – ", line)]
    assert shown == [(marked_rank(row) or row["merge"]).split()[0] for row in rows]
    assert "more models" not in "".join(lines)
    assert verdict_sentence(read_pairs(written / "comparisons.csv")) in " ".join(lines)


def test_terminal_has_the_best_of_each_width():
    rows = [{"rank": str(1 + place), "bits": "4"} for place in range(20)]
    rows[10]["bits"], rows[12]["bits"], rows[13]["bits"] = "32", "2", "2"
    rows += [{"rank": "", "bits": "32"}] * 2
    assert [row["rank"] for row in best_rows(rows, 12)] == [*"12345678", "11", "13", "", ""]
    assert [row["rank"] for row in best_rows(rows, 6)] == [*"123", "11", "", ""]
    assert [row["rank"] for row in best_rows(rows, 0)] == [*"123", "", ""]
    assert best_rows(rows[:5], 12) == rows[:5]


def test_a_screen_holds_what_is_long(written):
    """Many verdicts, many warnings, and every width: still a screen, with what is left out told."""
    pairs = [pair(f"a-merge-{merge}", f"a-quantizer-{quantizer}", "better") for merge in range(3) for quantizer in range(40)]
    pd.DataFrame(pairs).to_csv(written / "comparisons.csv", index=False)
    write_json(written / "warnings.json", WARNINGS)
    lines = screen(written)
    assert len(lines) == 22
    assert max(map(len, lines)) <= 100
    assert len([line for line in lines if line.endswith(" … (`make show`: all)")]) == 1
    assert "WARNINGS: 13, in leaderboard.md; `make show`: all." in lines
    write_json(written / "warnings.json", [{"where": "merged/ta", "message": "long " * 100}])
    lines = screen(written)
    assert len(lines) == 22
    assert "WARNING: merged/ta: long long" in "\n".join(lines)


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


def test_names_with_brackets_and_bars_are_shown(written):
    path = written / "leaderboard.csv"
    path.write_text(path.read_text().replace("ta-tuned", "[red]ta|0.3[/x]"))
    assert "[red]ta|0.3[/x]" in "".join(screen(written, every=True))
    assert markdown_table(pd.DataFrame({"merge": ["a|b"]})).splitlines()[-1] == r"| a\|b |"


WARNINGS = [{"where": f"merged/ta-{number}", "message": f"task vector {number} is [large]."} for number in range(13)]


def test_warnings_are_repeated_by_page_and_terminal(tmp_path, summary, capsys):
    report = write_report(tmp_path / "mini", summary, WARNINGS)
    page = (report / "leaderboard.md").read_text()
    assert page.index("## Warnings") < page.index("| rank |")
    assert all(f"- {one['where']}: {one['message']}" in page.splitlines() for one in WARNINGS)
    show(report, every=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("WARNING")] == [
        f"WARNING: merged/ta-{number}: task vector {number} is [large]." for number in range(13)
    ]


def test_no_warnings_no_section(written, capsys):
    assert "Warnings" not in (written / "leaderboard.md").read_text()
    show(written)
    assert "WARNING" not in capsys.readouterr().out


def pair(merge, quantizer, verdict, bits="4", group="channel", reference="gptq"):
    names = {"merge": merge, "bits": bits, "group_size": group, "quantizer": quantizer, "reference": reference}
    names["against"] = reference if reference == "full precision" else "reference"
    return names | {"verdict": verdict}


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


def test_every_comparison_with_the_reference_is_in_the_sentence(written, capsys):
    pairs = read_pairs(written / "comparisons.csv")
    sentence = verdict_sentence(pairs)
    for place in (sentence, (written / "leaderboard.md").read_text(), excerpt(written)):
        assert sentence in place
    show(written, every=True)
    assert "".join(sentence.split()) in "".join(capsys.readouterr().out.split())
    one_setting = [one for one in pairs if one["against"] == "reference" and one["bits"] == "3"]
    (said,) = re.findall(r"3 bits[^.]*, (better: .*?)\.(?: At|$)", sentence)
    told = set()
    for part in said.split("; "):
        verdict, names = part.split(": ")
        for name, merges in re.findall(r"([\w-]+) \(([^)]*)\)", names):
            under = ["ta-0.3", "ties-0.3", "ta-tuned"] if merges == "every merge" else merges.split(", ")
            told |= {(merge, name, verdict) for merge in under}
    assert told == {(one["merge"], one["quantizer"], one["verdict"]) for one in one_setting}


def test_terminal_names_the_files_that_exist(written, capsys):
    show(written)
    said = " ".join(capsys.readouterr().out.split())
    assert said.endswith(f" In {written}: leaderboard.csv, leaderboard.md, comparisons.csv")
    assert "Open" not in said
    (written / "leaderboard.html").touch()
    (written / "ablations.md").touch()
    show(written)
    said = " ".join(capsys.readouterr().out.split())
    assert said.endswith(
        f"Open {written}/leaderboard.html. In {written}: leaderboard.csv, leaderboard.md, comparisons.csv, ablations.md"
    )


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


def test_excerpt_hides_no_quantizer(written):
    rows = list(csv.DictReader((written / "leaderboard.csv").read_text().splitlines()))
    text = excerpt(written)
    merged = [row for row in rows if row["rank"] and row["quantizer"] == "full precision"]
    best = max(merged, key=lambda row: float(row["average"]))["merge"]
    assert text.startswith(
        f"**mini**, merge {best}, the best at full precision: every quantizer, and the references (ranks among all 33 models)"
    )
    shown = [tuple(cell.strip() for cell in line.split("|")[1:7]) for line in text.splitlines() if line.startswith("|")][2:]
    keys = ("tied_rank", "merge", "quantizer", "bits", "group_size")
    assert shown == [tuple(row[key] for key in ("rank", *keys)) for row in rows if row["merge"] == best or not row["rank"]]
    assert len(shown) == 1 + 5 * 2 + 2
    assert {row["merge"] for row in merged} == {"ta-0.3", "ties-0.3", "ta-tuned"}
    for merge in ("ta-0.3", "ta-tuned"):
        assert f"| {merge} |" in excerpt(written, merge)
    with pytest.raises(DataError, match=r'no merge "ta-tune".*ta-tuned'):
        excerpt(written, "ta-tune")


def test_readme_is_refreshed_with_its_picture(tmp_path, written):
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n")
    (written / "plots").mkdir()
    (written / "plots/average_by_bits.png").write_bytes(b"picture")
    readme.refresh(page, written)
    assert page.read_text() == f"# Title\n\n{BEGIN}\n{excerpt(written)}\n{END}\n"
    assert (tmp_path / "docs/images/average_by_bits.png").read_bytes() == b"picture"


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
