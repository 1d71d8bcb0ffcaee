"""The last screen of a run: the best rows, verdicts, warnings and files."""

import csv
import re

import pandas as pd
import pytest

from pmqbench.files import write_json
from pmqbench.reporting.readme import excerpt
from pmqbench.reporting.tables import markdown_table
from pmqbench.reporting.terminal import best_rows, show
from pmqbench.reporting.verdicts import marked_rank, read_pairs, verdict_sentence
from tests.reporting.conftest import pair, screen, write_report


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
