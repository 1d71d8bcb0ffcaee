"""Bad entries: each is refused with its file, the field and the reason, and nothing of it is shown."""

import json
from pathlib import Path

import pytest

from pmqbench.errors import DataError
from pmqbench.records import pack_outcomes
from tests.submissions.conftest import N, changed, outcomes, shown, unknown, with_outcomes

ROOT = Path(__file__).parents[2]


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


BAD = {
    "no JSON": (broken, "Invalid JSON"),
    "another key": (edit("colour", value=1), "^colour: Extra inputs are not permitted"),
    "codes and markup in a key": (
        edit("recipe", "\x1b[2J<b>\n", value=1),
        r"^recipe\.\\x1b\[2J<b> : Extra inputs are not permitted",
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
        assert "2J<b>" not in text  # markup is escaped
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
