"""Entries beside local rows: in CSV, Markdown and page, compared by the same tests, and refused with a reason."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pmqbench.errors import DataError, PMQError
from pmqbench.files import hash8
from pmqbench.records import pack_outcomes
from pmqbench.reporting.leaderboard import write_leaderboards
from pmqbench.reporting.page.contents import joint_contents, read_csv
from pmqbench.reporting.page.render import render_page
from pmqbench.submissions.admission import read_entries
from pmqbench.submissions.folder import entry_files
from pmqbench.submissions.submit import submit
from tests.submissions.conftest import TASKS, N, changed, outcomes, with_outcomes

ROOT = Path(__file__).parents[2]
NUMBERS = ["seeds", "average", "ci_low", "ci_high", "normalised", "size_mb", "compression", "calibration_seconds", "samples"]
NUMBERS += ["chosen", "standard_error", "worst", "worst_task"]


def row(table, **names):
    for column, value in names.items():
        table = table[table[column] == value]
    (found,) = table.to_dict("records")
    return found


def shown(joint, folder):
    """The CSV's rows, the Markdown and the page's rows."""
    write_leaderboards(joint, folder / "all.csv", folder / "all.md")
    contents = joint_contents(read_csv(folder / "all.csv"), {}, joint.warnings)
    names = [column["name"] for column in contents["columns"]]
    page = [dict(zip(names, cells, strict=True)) for cells in contents["rows"]]
    return list(csv.DictReader((folder / "all.csv").open())), (folder / "all.md").read_text(), page, render_page(contents)


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


def broken(path):
    path.write_text(path.read_text()[:-20])


def edit(*keys, value):
    """Sets a field of an entry."""

    def change(told):
        place = told
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return lambda path: changed(path, change)


def reorder(told):
    """The base's outcomes in another order: as right, on other examples."""
    result = told["base"]["results"]["digits"]
    correct = outcomes(0.5, "digits", "other")[::-1]
    value = float(correct.mean())
    result |= {"correct": pack_outcomes(correct), "value": value, "standard_error": (value * (1 - value) / N) ** 0.5}


def longer(told):
    """A seed more, as it is."""
    told["runs"].append(told["runs"][0])


def formula(told):
    """Names of tasks reach worst_task of the table."""
    for place in (told["tasks"], told["checkpoints"], told["experts"], told["base"]["results"]):
        place["=1+1"] = place.pop("digits")
    told["experts"]["=1+1"]["results"] = {"=1+1": told["experts"]["=1+1"]["results"]["digits"]}
    for run in told["runs"]:
        run["results"]["=1+1"] = run["results"].pop("digits")
    told["suite"] = "elsewhere"


def another_merge(told):
    """A model of one's own under the name of a merge here, whose recipe it has not."""
    told |= {"quantizer": "mine", "code_included": False}
    told["recipe"] |= {"model": None, "quantizer": {"method": "mine", "options": {"bits": 4}}}
    told["recipe"]["merge"]["options"]["scaling"] = 1.7


def unknown(told):
    """A method that the project lacks, with the hash of its recipe."""
    recipe = told["recipe"]
    recipe["quantizer"]["method"] = "gqtq"
    recipe["model"] = recipe["model"].rpartition("/")[0] + "/gqtq-" + hash8(recipe["quantizer"])


BAD = {
    "no JSON": (broken, "Invalid JSON"),
    "another key": (edit("colour", value=1), "^colour: Extra inputs are not permitted"),
    "codes and markup in a key": (
        edit("recipe", "\x1b[2J<b>\n", value=1),
        r"^recipe\. \[2J<b> : Extra inputs are not permitted",
    ),
    "a formula for a task": (lambda path: changed(path, formula), r"^tasks\.=1\+1\.\[key\]: String should match pattern"),
    "another merge of that name": (
        lambda path: changed(path, another_merge),
        r'^merge, recipe\.merge: another merge is called "ta"\. Give that one',
    ),
    "text for a number": (edit("bits", value="4"), "^bits: Input should be a valid integer"),
    "another format": (edit("format", value=2), "^format: Input should be 1"),
    "a script for a link": (edit("submitted", "link", value="javascript:alert(1)"), "^submitted.link: URL scheme should be"),
    "markup in a name": (edit("quantizer", value="<b>best</b>"), "^quantizer: String should match pattern"),
    "a value of its own": (
        edit("runs", 0, "results", "digits", "value", value=0.99),
        r"^runs\.0\.results\.digits\.value: is 0\.99, but its per-example outcomes give 0\.\d+\.",
    ),
    "an error of its own": (
        edit("runs", 0, "results", "digits", "standard_error", value=0.001),
        r"^runs\.0\.results\.digits\.standard_error: is 0\.001, but its per-example outcomes give",
    ),
    "no outcomes": (
        edit("runs", 1, "results", "digits", "correct", value=None),
        r"^runs\.1\.results\.digits\.correct: an accuracy needs its per-example outcomes",
    ),
    "another n": (edit("tasks", "digits", "n", value=N + 8), rf"^base\.results\.digits\.correct: is not {N + 8} bits"),
    "another id": (
        edit("recipe", "model", value="quantized/ta-00000000/gptq-00000000"),
        '^recipe.model: "quantized/ta-00000000/gptq-00000000" is not the folder of this recipe, whose hashes are',
    ),
    "other bits": (edit("bits", value=2), r"^bits, recipe\.quantizer\.options\.bits: is 2 here and 4 in the recipe"),
    "too many bits": (edit("bits", value=64), "^bits: Input should be less than or equal to 32"),
    "too small": (
        edit("runs", 0, "size_bytes", value=1000),
        r"^runs\.0\.size_bytes: 1000 is no size at 4 bits: from 400000 to",
    ),
    "labels against words": (
        edit("chosen", value="anchor"),
        r'^runs\.0\.costs\.validation_labels: is False, but chosen is "anchor"',
    ),
    "a method that is not here": (
        lambda path: changed(path, unknown),
        '^recipe.quantizer.options: unknown quantization method "gqtq". Did you mean "gptq"?',
    ),
    "no seeds of a method that has some": (
        lambda path: changed(path, lambda told: told.update(runs=[told["runs"][0] | {"seed": None}])),
        r"^runs\.0\.seed: calibration seeds do enter this recipe",
    ),
    "a base with a seed": (edit("base", "seed", value=0), r"^base\.seed: no seed enters the base or an expert"),
    "infinity": (
        edit("recipe", "merge", "options", "scaling", value=float("inf")),
        r"^recipe\.merge: Value error, Out of range",
    ),
    "a seed twice": (lambda path: changed(path, longer), r"^runs: the seeds \[0, 1, 0\] do not tell the runs apart"),
    "a task less": (
        edit("runs", 0, "results", value={"digits": {"value": 0.5, "standard_error": 0.1}}),
        r"^runs\.0\.results: has digits, but the tasks are digits, textures",
    ),
    "a name that is taken": (edit("quantizer", value="full precision"), '^quantizer: "full precision" is no name for a model'),
    "other data": (edit("tasks", "digits", "sha256", value="0" * 64), r"^tasks\.digits\.sha256: is 0000.*scored on other data"),
    "another expert": (edit("checkpoints", "textures", value="0" * 64), r"^checkpoints\.textures: is 0000.*another checkpoint"),
    "examples in another order": (
        lambda path: changed(path, reorder),
        r"^base\.results\.digits\.correct: the same model is right or wrong alike on only \d\d\.\d % of the examples here",
    ),
    "another result of a model here": (
        lambda path: changed(path, lambda told: with_outcomes(told, 0.9)),
        r"^runs: 89\.\d\d on average, but the same model has 6\d\.\d\d here \(p = ",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_entry_is_refused_with_file_field_and_reason(what, sent, join, tmp_path):
    path = sent("ta/gptq/4")
    change, why = BAD[what]
    change(path)
    before, joint = join([]), join([path])
    assert list(joint.refused) == [str(path)]
    with pytest.raises(DataError, match=why):
        raise DataError(joint.refused[str(path)])
    assert joint.table.equals(before.table)
    _, markdown, _, html = shown(joint, tmp_path)
    for text in (markdown, html):
        assert f"{path}" in text
        assert "refused: " in text
        assert "2J<b>" not in text
        assert "\x1b" not in text


def test_one_model_or_one_name_twice_is_refused(third_party, sent, join):
    second = third_party.with_name("second.json")
    for change, why in (
        ({"quantizer": "other name"}, f"recipe: is the model of {third_party}. Send it in once."),
        (
            {"recipe": {"options": {"bits": 4, "x": 1}}},
            "another model has the names ta, secret, 4, channel. Choose another name.",
        ),
        ({"quantizer": "gptq", "recipe": {"x": 1}}, "another model has the names ta, gptq, 4, channel. Choose another name."),
    ):
        told = json.loads(third_party.read_text())
        told["recipe"]["quantizer"] |= change.pop("recipe", {})
        second.write_text(json.dumps(told | change | {"submitted": {"by": "Eve", "date": "2030-01-01"}}))
        joint = join([second, third_party])
        assert list(joint.refused) == [str(second)]
        assert why in joint.refused[str(second)]


def test_what_confirms_a_row_counts_once_too(sent, join):
    first = sent("ta/gptq/4")
    second = first.with_name("second.json")
    shutil.copy(first, second)
    changed(second, lambda told: told.update(submitted={"by": "Eve", "date": "2030-01-01"}))
    joint = join([second, first])
    assert joint.refused == {str(second): f"recipe: is the model of {first}. Send it in once."}
    assert row(joint.table, origin="confirmed")["submitted_by"] == "Ada Lovelace"


def test_submit_answers_what_it_cannot_write(suite, sent, tmp_path, monkeypatch):
    path = sent("ta/gptq/4")
    for row_name, by, link, why in (
        ("ta/gptq/3", "Ada", "", r'MODEL: small has no row "ta/gptq/3"\. Did you mean "ta/gptq/'),
        ("ta/gptq/4", "Ada", "", f"{path}: this model is there already"),
        ("ta/gptq/2", "", "", "BY: String should match pattern"),
        ("ta/gptq/2", "Ada", "ftp://x", "LINK: URL scheme should be"),
    ):
        with pytest.raises(PMQError, match=why):
            submit(suite, "all", row_name, by, link, folder=path.parent)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"results/merged/.*manifest\.json: there is no such file\. Run the suite first"):
        submit(suite, "all", "ta/gptq/2", "Ada", "", folder=path.parent)
    assert list(path.parent.iterdir()) == [path]


def test_a_row_of_the_target_seeds_is_one_of_the_suites_own_seed(suite, here, tmp_path):
    one, other = (submit(suite, target, "ta/gptq/4", "Ada", "", folder=tmp_path / target) for target in ("all", "seeds"))
    assert one.read_text() == other.read_text()
    with pytest.raises(PMQError, match=r'MODEL: small@seeds has no row "ta/rtn/4"'):
        submit(suite, "seeds", "ta/rtn/4", "Ada", "", folder=tmp_path)


def test_a_method_of_ones_own_checkout_can_stay_there(suite, here, join, tmp_path):
    path = submit(suite, "all", "ta/epmq/4", "Ada", "", with_code=False, folder=tmp_path)
    changed(path, unknown)
    joint = join([path], {})
    assert joint.refused == {}
    assert row(joint.table, rank="1")["origin"] == "not regenerated"


def test_a_method_of_another_package_is_without_its_code(sent, join, monkeypatch):
    path = sent("ta/gptq/4")
    for module in ("checks", "submit"):
        monkeypatch.setattr(f"pmqbench.submissions.{module}.OWN", "pmqbench.merging.")  # so quantizers are another package's
    joint = join([path])
    assert joint.refused[str(path)].startswith('recipe.quantizer: "gptq" is a method of another package')
    for name, included in {"ta/gptq/2": False, "ta": True}.items():
        assert json.loads(sent(name).read_text())["code_included"] is included


def test_the_documents_way_without_code_makes_an_entry_that_is_taken(sent, join, tmp_path, monkeypatch):
    page = (ROOT / "docs/submitting.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    start, made = (tmp_path / path for path in re.findall(r'open\("(.*?)"', code))
    start.parent.mkdir(parents=True)
    shutil.copy(sent("ta/gptq/4"), start)
    (tmp_path / "mine").mkdir()
    for task in TASKS:
        for seed in (0, 1):
            np.save(tmp_path / f"mine/{task}-{seed}.npy", outcomes(0.8, task, f"mine{seed}"))
    with monkeypatch.context() as there:
        there.chdir(tmp_path)
        exec(code, {})
    joint = join([made])
    assert joint.refused == {}
    assert row(joint.table, quantizer="my-method")["origin"] == "not regenerated"


def test_the_project_own_entries_agree_with_themselves():
    assert read_entries(entry_files())[1] == {}
