"""Entries beside local rows: in CSV, Markdown and page, compared by the same tests, and refused with a reason."""

import shutil
from pathlib import Path

import pytest

from tests.submissions.conftest import changed, row, shown

ROOT = Path(__file__).parents[2]
NUMBERS = ["seeds", "average", "ci_low", "ci_high", "normalised", "size_mb", "compression", "calibration_seconds", "samples"]
NUMBERS += ["chosen", "standard_error", "worst", "worst_task"]


def test_a_third_partys_entry_has_a_marked_row_everywhere(third_party, join, tmp_path):
    joint = join([third_party])
    assert joint.refused == {}
    table, markdown, page, html = shown(joint, tmp_path)
    for rows in (table, page):
        (found,) = [one for one in rows if one["quantizer"] == "secret"]
        assert (found["rank"], found["origin"], found["submitted_by"]) == ("1", "not regenerated", "Ada Lovelace")
        assert {one["origin"] for one in rows if one is not found} == {"here"}
    (line,) = [line for line in markdown.splitlines() if "| secret |" in line]
    assert "| not regenerated |" in line
    assert "sent in without its code, so nobody can compute it again" in html
    assert "nobody here can compute it again" in " ".join(markdown.split())


def test_an_entry_is_compared_by_its_outcomes_with_local_rows(third_party, join):
    found = row(join([third_party]).table, quantizer="secret")
    assert float(found["to_reference"]) > 5
    assert float(found["to_reference_p"]) < 0.01
    second = row(join([third_party]).table, rank="2")
    assert float(second["to_best"]) < 0
    assert float(second["to_best_p"]) < 0.01
    assert row(join([]).table, quantizer=second["quantizer"], merge=second["merge"], bits=second["bits"])["rank"] == "1"


@pytest.mark.parametrize("name", ["ta/gptq/4", "ta/epmq/2", "ties-val/rtn/4", "ties-val", "ta"])
def test_what_was_sent_in_has_the_local_rows_numbers(name, sent, join):
    merge, quantizer, bits = (*name.split("/"), "full precision", "32")[:3] if "/" not in name else name.split("/")
    names = {"suite": "small", "merge": merge, "quantizer": quantizer, "bits": bits}
    local, path = row(join([]).table, **names), sent(name)
    alone = join([path], {}).table
    there = row(alone, **names)
    assert {column: there[column] for column in NUMBERS} == {column: local[column] for column in NUMBERS}
    assert (local["origin"], there["origin"], there["rank"]) == ("here", "submitted", "1")
    assert list(alone["merge"][1:]) == ["individual experts", "pre-trained"]
    beside = join([path])
    assert beside.refused == {}
    again = row(beside.table, **names)
    who = {"submitted_by": "Ada Lovelace", "link": "https://example.org/ada", "entry": str(path)}
    assert again == local | {"origin": "confirmed"} | who


def test_without_local_results_the_oldest_entry_says_on_what_all_are(sent, join, tmp_path):
    def other(told):
        told["checkpoints"]["digits"] = "0" * 64
        told["submitted"]["date"] = "2025-01-01"

    first, second, old = sent("ta/gptq/4"), sent("ta/gptq/2"), changed(sent("ta/rtn/4"), other)
    joint = join([first, second], {})
    assert len(joint.table) == 4
    assert float(row(joint.table, rank="2")["above_p"]) > 0
    joint = join([first, second, old], {})
    assert len(joint.table) == 3
    assert set(joint.refused) == {str(first), str(second)}
    assert all("checkpoints.digits: is " in why for why in joint.refused.values())


def test_what_confirms_a_row_counts_once_too(sent, join):
    first = sent("ta/gptq/4")
    second = first.with_name("second.json")
    shutil.copy(first, second)
    changed(second, lambda told: told.update(submitted={"by": "Eve", "date": "2030-01-01"}))
    joint = join([second, first])
    assert joint.refused == {str(second): f"recipe: is the model of {first}. Send it in once."}
    assert row(joint.table, origin="confirmed")["submitted_by"] == "Ada Lovelace"
