"""The files of published numbers, and which of our models they are compared with."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError
from pmqbench.merging.featcal import FeatCal
from pmqbench.merging.iso_c import IsoC
from pmqbench.merging.magmax import MagMax
from pmqbench.merging.regmean import RegMean
from pmqbench.merging.simple_average import SimpleAverage
from pmqbench.merging.task_arithmetic import TaskArithmetic
from pmqbench.merging.ties import Ties
from pmqbench.merging.wudi import Wudi
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.rtn import Rtn
from pmqbench.recipes import MergeRecipe, QuantRecipe, RefineRecipe
from pmqbench.refinement.methods.distill import Distill
from pmqbench.reporting import published
from pmqbench.reporting.published import AGREES, AVERAGE, DIFFERS, FOLDER, NOT_RUN, judge, load_published, pair_up

CONFIGS = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))
GLUE = [f"glue-{name}" for name in ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")]
CLIP = ["sun397", "stanford-cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd"]
CLIP += ["oxford_flowers102", "pcam", "fer2013", "oxford-iiit-pet", "stl10", "cifar100"]
CLIP += ["cifar10", "food101", "fashion_mnist", "emnist_letters", "kmnist", "rendered-sst2"]
MERGED = ["simple average", "Task Arithmetic 0.3", "TIES 0.3"]
SUITES = {
    f"clip-vit-{size}-{name}": CLIP[:n] for size in ("b32", "l14") for name, n in (("ta8", 8), ("tall14", 14), ("tall20", 20))
}
SUITES["flan-t5-base-glue"] = GLUE
# Printed averages, in each file's order of rows.
AVERAGES = {
    "clip-vit-b32-ta8": [
        48.2,
        90.3,
        66.5,
        68.0,
        67.55,
        72.2,
        70.7,
        71.1,
        84.5,
        82.4,
        84.4,
        85.47,
        83.06,
        82.8,
        82.7,
        65.0,
        73.6,
        69.1,
        74.8,
    ],
    "clip-vit-b32-tall20": [55.65, 89.77],
    "clip-vit-l14-ta8": [64.6, 94.3, 80.0, 80.7, 84.0, 90.4, 91.0],
    "clip-vit-l14-tall20": [65.61, 93.52, 34.8, 76.7],
    "flan-t5-base-glue": [75.7, 86.4, 78.9, 78.9, 79.9, 78.26, 83.34],
}


def test_every_suite_of_the_paper_has_a_file():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(SUITES)


@pytest.mark.parametrize("suite", SUITES)
def test_files_are_complete(suite):
    numbers = load_published(suite)
    assert list(numbers.tasks) == SUITES[suite]
    labels = [row.label for row in numbers.rows]
    assert len(set(labels)) == len(labels)
    assert labels[:2] == ["pre-trained", "individual"]
    assert suite.endswith(("tall14", "tall20")) or [label for label in labels if label in MERGED] == MERGED
    for row in numbers.rows:
        values = numbers.values(row)
        assert set(values) in ({AVERAGE}, {*numbers.tasks, AVERAGE})
        assert row.kind not in ("base", "expert") or len(values) > 1
        assert all(0 < value < 100 for value in values.values())
        assert numbers.sources[row.source]


@pytest.mark.parametrize("suite", AVERAGES)
def test_averages_are_the_printed_ones(suite):
    numbers = load_published(suite)
    assert [numbers.values(row)[AVERAGE] for row in numbers.rows] == AVERAGES[suite]
    for row in numbers.rows:
        if row.values:  # one decimal in print, and each value rounded before
            assert fmean(row.values) == pytest.approx(numbers.values(row)[AVERAGE], abs=0.1)


def test_fourteen_tasks_are_the_first_of_twenty():
    short, whole = load_published("clip-vit-l14-tall14"), load_published("clip-vit-l14-tall20")
    assert [row.label for row in short.rows] == ["pre-trained", "individual"]
    values = short.values(short.rows[1])
    assert values["cifar100"] == 93.0
    assert values[AVERAGE] == round(sum(whole.rows[1].values[:14]) / 14, 2)


def test_tolerances():
    tolerances = load_published("clip-vit-b32-ta8").tolerances()
    assert {task: points for task, points in tolerances.items() if points != 0.5} == {
        "eurosat": 4.0,
        "resisc45": 0.6,
        "dtd": 0.6,
        AVERAGE: 0.96,  # (4 + 0.6 + 0.6 + 5 x 0.5) / 8
    }
    assert set(load_published("flan-t5-base-glue").tolerances().values()) == {0.5}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_suites_have_the_tasks_of_their_published_numbers(path):
    suite = load_suite(read_config(path))
    numbers = load_published(suite.name)
    assert (numbers is not None) == (path.stem in SUITES)
    assert numbers is None or list(numbers.tasks) == [task.name for task in suite.tasks]


@pytest.mark.parametrize(
    ("ours", "published_value", "tolerance", "difference", "verdict"),
    [
        (63.2, 63.2, 0.5, 0.0, AGREES),
        (63.7, 63.2, 0.5, 0.5, AGREES),
        (62.7, 63.2, 0.5, -0.5, AGREES),
        (63.704, 63.2, 0.5, 0.5, AGREES),  # as shown: 63.70
        (63.706, 63.2, 0.5, 0.51, DIFFERS),
        (62.69, 63.2, 0.5, -0.51, DIFFERS),
        (95.03, 99.0, 4.0, -3.97, AGREES),
        (79.1, 79.7, 0.6, -0.6, AGREES),
        (None, 63.2, 0.5, None, NOT_RUN),
    ],
)
def test_verdicts(ours, published_value, tolerance, difference, verdict):
    found = judge(ours, published_value, tolerance)
    assert (found["difference"], found["verdict"]) == (difference, verdict)


def merge(name, method_name, method, tune=()):
    return MergeRecipe(name, method_name, method, tune, {})


def quantizer(name, method_name, method):
    return QuantRecipe(name, method_name, method, {})


TA, TIES = merge("mine", "task_arithmetic", TaskArithmetic(scaling=0.3)), merge("other", "ties", Ties())
MERGES = {
    "ta": TA,
    "ties": TIES,
    "strong": merge("strong", "task_arithmetic", TaskArithmetic(scaling=0.5)),
    "tuned": merge("tuned", "task_arithmetic", TaskArithmetic(), (0.1, 0.2)),
    "average": merge("average", "simple_average", SimpleAverage()),
    "magmax": merge("m", "magmax", MagMax(scaling=0.6)),
    "wudi": merge("w", "wudi", Wudi()),
    "wudi-adam": merge("wa", "wudi", Wudi(solver="adam", steps=400)),
    "regmean": merge("r", "regmean", RegMean()),
    "featcal": merge("f", "featcal", FeatCal(seed=1)),
    "iso": merge("i", "iso_c", IsoC(scaling=1.5)),
    "calibrated": replace(TA, name="calibrated", calibrate_singular_values={"floor": 0.1}),
}
QUANTIZERS = {
    "gptq": quantizer("g4", "gptq", Gptq(bits=4)),
    "gptq3": quantizer("g4", "gptq", Gptq(bits=3)),
    "grouped": quantizer("g4", "gptq", Gptq(group_size=128)),
    "epmq": quantizer("e4", "epmq", Epmq()),
    "anchored": quantizer("e4", "epmq", Epmq(anchor=3)),
    "few": quantizer("few", "epmq", Epmq(calibration_samples=16)),
    "rtn": quantizer("rtn", "rtn", Rtn()),
    "tuned": replace(quantizer("t", "epmq", Epmq()), tune={"anchor": (0.1, 1.0)}),
    "refined": replace(quantizer("d", "gptq", Gptq(bits=4)), refinement=RefineRecipe("distill", Distill(), {})),
}
MODELS = [
    ("base", "base/b", None, None),
    *(("expert", f"experts/{task}", None, None) for task in CLIP[:8]),
    *(("merged", f"merged/{name}", merge, None) for name, merge in MERGES.items()),
    *(
        ("quantized", f"quantized/{name}/{kind}/seed-{seed}", merge, quantizer)
        for name, merge in MERGES.items()
        for kind, quantizer in QUANTIZERS.items()
        for seed in (0, 1)
    ),
]
DEFAULT = [name for _, name, _, _ in MODELS if name.split("/")[1] in ("b", "ta", "ties", "strong", *CLIP)]


def test_models_are_matched_by_method_and_options():
    pairs = pair_up(load_published("clip-vit-b32-ta8"), MODELS, CLIP[7::-1], DEFAULT)
    found = {pair["label"]: (pair["merge"], pair["quantizer"], pair["models"]) for pair in pairs}
    assert len(found) == len(pairs) == 19
    assert found["pre-trained"] == (None, None, ["base/b"])
    assert found["individual"] == (None, None, [f"experts/{task}" for task in CLIP[:8]])
    assert found["simple average"] == ("average", None, ["merged/average"])
    assert found["Task Arithmetic 0.3"] == found["Task Arithmetic 0.3, rerun of 2026"] == ("mine", None, ["merged/ta"])
    assert found["MagMax 0.6"] == ("m", None, ["merged/magmax"])
    assert found["MagMax 0.5"] == (None, None, [])
    assert found["WUDI, 400 steps of Adam"] == ("wa", None, ["merged/wudi-adam"])
    assert found["RegMean"] == ("r", None, ["merged/regmean"])
    assert found["RegMean++"] == (None, None, [])
    assert found["FeatCal on Task Arithmetic 0.3"] == (None, None, [])  # another draw of samples
    assert found["Iso-C 1.5"] == ("i", None, ["merged/iso"])
    assert found["TIES 0.3"] == ("other", None, ["merged/ties"])
    seeds = ["quantized/ta/gptq/seed-0", "quantized/ta/gptq/seed-1"]
    assert found["GPTQ, 4 bits, Task Arithmetic 0.3"] == ("mine", "g4", seeds)
    assert found["E-PMQ, 4 bits, TIES 0.3"][2] == ["quantized/ties/epmq/seed-0", "quantized/ties/epmq/seed-1"]


def test_a_source_that_states_no_merge_is_compared_with_every_merge_of_the_default_target():
    pairs = pair_up(load_published("clip-vit-l14-tall20"), MODELS, CLIP, DEFAULT)
    assert [pair["merge"] for pair in pairs if pair["label"].startswith("E-PMQ")] == [
        "mine",
        "other",
        "strong",
    ]


def test_merges_of_other_tasks_are_not_the_published_ones():
    pairs = pair_up(load_published("clip-vit-b32-ta8"), MODELS, CLIP[:7], DEFAULT)
    assert [bool(pair["models"]) for pair in pairs] == [True, True] + 17 * [False]


def test_a_suite_without_a_file_has_no_published_numbers():
    assert load_published("mini") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": [{"label": "x", "kind": "base", "source": "s", "values": [1.0]}]}, ["x", "1 values for 2 tasks"]),
        ({"rows": [{"label": "x", "kind": "base", "source": "s"}]}, ["x", "0 values", "average alone"]),
        ({"rows": [{"label": "x", "kind": "base", "source": "t", "average": 1.0}]}, ["x", 'unknown source "t"']),
        ({"rows": [{"label": "x", "kind": "bas", "source": "s", "average": 1.0}]}, ["rows.0.kind", 'not "bas"']),
        ({"rows": [{"label": "x", "kind": "base", "source": "s", "avrage": 1.0}]}, ["rows.0", 'Did you mean "average"?']),
        ({"tolerance": {"a": 1.0}}, ["tolerance", '"default" is missing']),
        ({"tolerance": {"default": 0.5, "c": 1.0}}, ["tolerance", "no task c"]),
        ({"of": "none", "first": 1}, ["bad.json", "unknown key"]),
    ],
)
def test_bad_files(tmp_path, monkeypatch, change, words):
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    data = {"tasks": ["a", "b"], "tolerance": {"default": 0.5}, "sources": {"s": "a paper"}, "rows": []}
    (tmp_path / "bad.json").write_text(json.dumps(data | change))
    with pytest.raises(ConfigError) as caught:
        load_published("bad")
    for word in ["bad.json", *words]:
        assert word in str(caught.value)


def test_an_excerpt_of_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    (tmp_path / "bad.json").write_text('{"of": "nothing", "first": 2}')
    with pytest.raises(ConfigError, match='no published numbers of "nothing"'):
        load_published("bad")
