"""Questions of a config become recipes: what is varied varies, everything else keeps its name and its artefact."""

import copy
from pathlib import Path

import pytest
import yaml

from pmqbench.ablations import label_of, nested
from pmqbench.config import load_suite
from pmqbench.errors import ConfigError

CONFIG = Path(__file__).parents[1] / "config"
MINI = yaml.safe_load((CONFIG / "mini.yaml").read_text())
ANCHOR = {"question": "How strong?", "merges": ["ta", "wudi"], "quantizers": ["fixed"], "vary": "anchor", "values": [0, 1, 10]}
ASKED = {
    "anchor",
    "target-inputs",
    "task-weights",
    "norms-and-biases",
    "calibration-samples",
    "sequential",
    "solver",
    "order-and-groups",
    "bits",
    "distillation-steps",
    "distillation-samples",
    "scaling",
}


def target(**figure):
    """The target with one question, ANCHOR but for the given keys (None: without)."""
    config = copy.deepcopy(MINI)
    asked = {key: value for key, value in (ANCHOR | figure).items() if value is not None}
    recipe = {"fixed": {"method": "epmq", "anchor": 1}}
    config["targets"] = {"ablations": {"quantizers": recipe, "figures": {"mine": asked}}}
    return load_suite(config).targets["ablations"]


def points(**figure):
    """Its points as JSON."""
    (ablation,) = target(**figure).ablations
    return ablation.describe()["points"]


@pytest.mark.parametrize("name", ["mini", "clip-vit-b32-ta8", "flan-t5-base-glue"])
def test_shipped_suites_ask_every_question(name):
    suite = load_suite(yaml.safe_load((CONFIG / f"{name}.yaml").read_text()))
    assert {ablation.name for ablation in suite.targets["ablations"].ablations} == ASKED
    assert not any(target.ablations for name, target in suite.targets.items() if name != "ablations")


def test_a_value_is_a_recipe_and_what_is_not_varied_keeps_its_name():
    made = target()
    (ablation,) = made.ablations
    assert ablation.labels == ("0", "1", "10")
    assert (ablation.baseline, ablation.against, ablation.vary) == ("0", None, "anchor")
    assert [point.quantizer.method.anchor for point in ablation.points] == [0, 1, 10] * 2
    assert [point.quantizer.name for point in ablation.points[:3]] == ["fixed-mine-0", "fixed", "fixed-mine-10"]
    assert [point.panel for point in ablation.points] == ["ta at 4 bits"] * 3 + ["wudi at 4 bits"] * 3
    assert {point.series for point in ablation.points} == {"fixed"}
    default = load_suite(MINI).targets["default"].pairs
    assert [(merge.id, recipe.path) for merge, recipe in made.pairs[: len(default)]] == [(m.id, q.path) for m, q in default]
    assert made.pairs[len(default) :] == tuple((point.merge, point.quantizer) for point in ablation.points)


def test_widths_and_groups_are_varied_under_the_same_name():
    found = points(vary="bits", values=[2, 8], merges=["ta"])
    assert [(point["panel"], point["quantizer"], point["bits"]) for point in found] == [("ta", "fixed", 2), ("ta", "fixed", 8)]
    variants = {"channel": {}, "g64": {"group_size": 64}, "order": {"group_size": 64, "act_order": True}}
    found = points(vary=None, values=None, variants=variants, bits=[2, 4], merges=["ta"])
    assert [(point["bits"], point["quantizer"], point["group_size"]) for point in found[:3]] == [
        (2, "fixed", None),
        (2, "fixed", 64),
        (2, "fixed-mine-order", 64),
    ]
    assert [point["panel"] for point in found] == ["ta at 2 bits"] * 3 + ["ta at 4 bits"] * 3


def test_a_refinements_options_and_the_merges_are_varied_too():
    steps = target(quantizers=["distilled"], vary="refine.steps", values=[5, 400]).ablations[0].points
    assert [point.quantizer.refinement.method.steps for point in steps] == [5, 400] * 2
    assert {point.quantizer.refinement.method.calibration_samples for point in steps} == {256}
    assert len({point.quantizer.id for point in steps}) == 1
    scaled = target(vary="merge.scaling", values=[0.3, 0.5], merges=["ta"]).ablations[0].points
    assert [(point.merge.name, point.merge.method.scaling) for point in scaled] == [("ta", 0.3), ("ta-mine-0.5", 0.5)]
    assert {point.quantizer.name for point in scaled} == {"fixed"}
    assert {point.panel for point in scaled} == {"ta at 4 bits"}


def test_series_are_compared_with_a_label_or_with_each_other():
    (ablation,) = target(baseline=1.0).ablations
    assert (ablation.baseline, ablation.against) == ("1", None)
    (ablation,) = target(quantizers=["gptq", "fixed"], vary="bits", values=[2, 4], against="gptq").ablations
    assert (ablation.baseline, ablation.against) == (None, "gptq")


@pytest.mark.parametrize(
    ("figure", "parts"),
    [
        ({"vary": "ancor"}, ["figures.mine.fixed", '"ancor"', 'Did you mean "anchor"?']),
        ({"values": [0, -1]}, ["anchor: must be at least 0, not -1"]),
        ({"values": [1]}, ["figures.mine.values", "at least 2"]),
        ({"baseline": 3}, ["figures.mine.baseline", '"3"', "Known: 0, 1, 10."]),
        ({"merges": ["wud"]}, ["figures.mine.merges.0", 'Did you mean "wudi"?']),
        ({"quantizers": ["fixd"]}, ["figures.mine.quantizers.0", 'Did you mean "fixed"?']),
        ({"against": "gptq"}, ["figures.mine.against", "Known: fixed."]),
        ({"against": "fixed", "baseline": 1}, ["both baseline and against"]),
        ({"values": None}, ["figures.mine", "has vary"]),
        ({"vary": None, "values": None}, ["figures.mine", "none of them"]),
        ({"variants": {"a": {}, "b": {"anchor": 1}}}, ["figures.mine", "has values and variants and vary"]),
        ({"vary": "merges", "values": ["ta", "wudi"]}, ['"ta" and "wudi" are the same recipe of fixed']),
        ({"quantizers": ["epmq"]}, ["anchor is both given and tuned"]),
        ({"vary": "merge.scaling", "merges": ["ta-val"], "values": [0.1, 0.2]}, ["scaling is both given and tuned"]),
        ({"question": None}, ['"question" is missing', "What the figure answers"]),
    ],
)
def test_a_wrong_question_is_refused_with_its_place(figure, parts):
    with pytest.raises(ConfigError) as error:
        target(**figure)
    for part in parts:
        assert part in str(error.value)


def test_labels_and_key_paths():
    assert [label_of(value) for value in (0.01, 1, True, "student")] == ["0.01", "1", "true", "student"]
    assert nested(["refine", "steps"], 5) == {"refine": {"steps": 5}}
