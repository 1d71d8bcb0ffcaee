"""Training seeds of a config: what is trained anew has other ids, what is not is shared, and what cannot be is refused."""

import copy
from pathlib import Path

import pytest

from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError
from pmqbench.workflow.layout import Layout
from pmqbench.workflow.training_seeds import TrainingSeeds

ROOT = Path(__file__).parents[1]
MINI = read_config(ROOT / "config" / "mini.yaml")


def seeds_of(wanted, **changed):
    """The suite with these `targets.seeds`."""
    config = copy.deepcopy(MINI) | {"targets": {"seeds": wanted}} | changed
    return TrainingSeeds(Layout(load_suite(config)))


def test_base_and_all_that_follows_are_made_anew_and_data_are_shared():
    seeds = seeds_of({"training_seeds": [0, 1, 2], "merges": ["wudi"], "quantizers": ["gptq", "distilled"], "bits": [2]})
    own, layouts = seeds.layout, seeds.layouts
    assert [layout.data_manifests() for layout in layouts.values()] == [own.data_manifests()] * 3
    targets = {seed: layout.suite.targets["default"] for seed, layout in layouts.items()}
    assert {target.report for target in targets.values()} == {"mini@seeds"}
    names = {
        seed: [(merge.name, quantizer.name, quantizer.method.bits) for merge, quantizer in target.pairs]
        for seed, target in targets.items()
    }
    assert names[0] == names[1] == names[2] == [("wudi", "gptq", 2), ("wudi", "distilled", 2)]
    models = {seed: {model.id for model in layout.models_of(targets[seed])} for seed, layout in layouts.items()}
    assert models[0] <= own.models.keys()
    assert not (models[1] | models[2]) & own.models.keys()
    assert not models[1] & models[2]
    assert list(seeds.anew()) == ["training_1_", "training_2_"]
    rows = seeds.rows(None)
    assert len(rows) == 3 * (4 + 4 + 4 + 2 * 3 * 4)  # base, experts, merge, two quantizers of three calibration seeds
    assert len(seeds.record_files(None)) == len(rows)
    assert seeds.files(None)[0] == "results/suites/mini@seeds/records.parquet"


def test_a_suite_whose_own_seed_is_not_named_trains_all_of_them():
    assert list(seeds_of({"training_seeds": [4, 5]}).anew()) == ["training_4_", "training_5_"]
    default = seeds_of({"training_seeds": [0, 1]})
    assert default.layouts[1].suite.targets["default"].pairs[0][0].name == "ta"
    assert len(default.layouts[1].suite.targets["default"].pairs) == len(default.layout.suite.targets["default"].pairs)


def test_a_quantizer_that_fixes_its_bits_is_compared_too():
    quantizers = {"rtn": {"method": "rtn"}, "gptq": {"method": "gptq"}, "relaxed": {"method": "epmq", "bits": 16}}
    seeds = seeds_of({"training_seeds": [0, 1], "merges": ["wudi"], "bits": [2]}, quantizers=quantizers)
    pairs = seeds.layouts[1].suite.targets["default"].pairs
    assert [(quantizer.name, quantizer.method.bits) for _, quantizer in pairs] == [("rtn", 2), ("gptq", 2), ("relaxed", 16)]


def test_the_script_is_told_the_seed():
    (suite,) = seeds_of({"training_seeds": [0, 7]}).anew().values()
    assert suite.sources == {role: {"source": "mini", "seed": 7} for role in ("base", "experts")}
    assert (suite.base.seed, suite.experts.seed) == (7, 7)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"training_seeds": [0]}, ["targets.seeds.training_seeds", "at least 2 entries"]),
        ({"training_seeds": [0, 0]}, ["training_seeds", "0 stands twice"]),
        ({"training_seeds": [0, 1], "merges": ["wudy"]}, ["targets.seeds.merges.0", 'Did you mean "wudi"?']),
        ({"training_seeds": [0, 1], "quantizers": ["gptq", "awk"]}, ["targets.seeds.quantizers.1", 'Did you mean "awq"?']),
        ({"training_seeds": [0, 1], "quantizers": ["awq"]}, ["targets.seeds.quantizers", '"gptq"', "Add it."]),
        ({"training_seeds": [0, 1], "quantizers": ["gptq"]}, ["targets.seeds.quantizers", 'nothing is compared with "gptq"']),
        ({"training_seeds": [0, 1], "bits": [8]}, ["targets.seeds.bits.0", "no 8 bits", "It has: 4, 2."]),
        ({"training_seed": [0, 1]}, ["targets.seeds.training_seed", 'Did you mean "training_seeds"?']),
    ],
)
def test_what_cannot_be_compared_is_refused(wanted, words):
    with pytest.raises(ConfigError) as caught:
        seeds_of(wanted)
    for word in words:
        assert word in str(caught.value)


def test_finished_models_have_no_training_seed(tmp_path):
    config = read_config(ROOT / "config" / "clip-vit-b32-ta8.yaml") | {"targets": {"seeds": {"training_seeds": [0, 1]}}}
    with pytest.raises(ConfigError, match=r"targets\.seeds: neither base nor experts are trained here"):
        load_suite(config)


def test_a_suite_without_training_seeds_says_so():
    config = copy.deepcopy(MINI)
    del config["targets"]["seeds"]
    with pytest.raises(ConfigError, match=r'suite mini has no target "seeds"'):
        TrainingSeeds(Layout(load_suite(config))).files(None)
