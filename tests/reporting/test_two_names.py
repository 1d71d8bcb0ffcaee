"""One model that a suite lists under two names: a merge's, a quantizer's, or both."""

import pandas as pd
import pytest
from pmqbench.reporting.layer_plot import by_layer

from pmqbench.files import write_json
from pmqbench.records import write_record
from pmqbench.reporting.collect import collect, collect_layers
from pmqbench.reporting.plots import by_bits, by_size, by_task
from pmqbench.reporting.reproduction import compare_published
from pmqbench.reporting.runs import logged_runs
from pmqbench.reporting.statistics import UNCLEAR, compare, summarise
from pmqbench.reporting.tables import leaderboard

OWN = {"merges": {"ta": 0.6}, "quantizers": {"rtn": -0.02, "gptq": 0.0}, "bits": (4,)}
NAMES = {"merge": {"ta": "ta-too"}, "quantizer": {"gptq": "gptq-too"}}


def renamed(row):
    """The same row under the other names, or None where it has none."""
    other = row | {key: names.get(row[key], row[key]) for key, names in NAMES.items()}
    return None if other == row else other


@pytest.fixture(scope="module")
def records(tmp_path_factory, rows):
    """Collected records; every merged and quantized model has two names, and its records are read twice."""
    folder, listed = tmp_path_factory.mktemp("records"), []
    for record, row in rows(**OWN, n=40):
        path = folder / row["path"]
        write_record(path, record)
        listed += [one | {"path": path} for one in (row, renamed(row)) if one]
    return collect("mini", listed)


def test_both_names_have_all_figures(records, tasks):
    summary = summarise(records, tasks)
    table = leaderboard(summary).set_index(["merge", "quantizer"])
    for quantizer in ("full precision", "rtn"):
        pd.testing.assert_series_equal(table.loc["ta", quantizer], table.loc["ta-too", quantizer], check_names=False)
    pd.testing.assert_series_equal(table.loc["ta", "gptq"], table.loc["ta-too", "gptq-too"], check_names=False)
    assert len(table) == 2 + 2 * 3
    assert compare(summary, "gptq")["reference"].eq("gptq").sum() == 1  # the other name is under the other merge


def test_two_names_of_one_quantizer_do_not_differ(frame, tasks):
    """Not even where errors are drawn and no examples are."""
    records = frame(**OWN, n=40).assign(correct=None)
    again = records[records["quantizer"] == "gptq"].assign(quantizer="gptq-too")
    pairs = compare(summarise(pd.concat([records, again]), tasks), "gptq").set_index(["quantizer", "reference"])
    same = pairs.loc["gptq-too", "gptq"]
    assert (same["difference"], same["ci_low"], same["ci_high"], same["se_examples"]) == (0, 0, 0, 0)
    assert same["verdict"] == UNCLEAR


def test_plots_show_both_names(records, layers, tasks):
    summary = summarise(records, tasks)
    deviations = layers(**OWN)
    again = deviations.replace({"merge": NAMES["merge"], "quantizer": NAMES["quantizer"]})
    drawn = [by_task(summary, 4), by_bits(summary), by_size(summary), by_layer(pd.concat([deviations, again]), 4)]
    for figure in drawn:
        titles = {axis.get_title() for axis in figure.axes}
        assert {"merge: ta", "merge: ta-too"} <= titles
        assert {"gptq", "gptq-too"} <= {text.get_text() for text in figure.legends[0].get_texts()}


def test_runs_and_published_numbers(records, frame, tasks):
    single = frame(**OWN, n=40)
    runs = logged_runs(records)
    assert len({run.key for run in runs}) == len(runs) == len(logged_runs(single)) + 5  # merged, rtn, gptq with three seeds
    seeds = [f"ta/gptq-4-None/seed-{seed}" for seed in (0, 1, 2)]
    pair = {"label": "GPTQ", "kind": "quantized", "source": "s", "merge": "ta", "quantizer": "gptq", "models": seeds}
    published = [pair | {"values": dict.fromkeys(tasks, 60.0)}]
    tolerances = dict.fromkeys(tasks, 1.0)
    once, twice = (compare_published(table, published, tolerances) for table in (single, records))
    pd.testing.assert_frame_equal(once, twice)


def test_layers_of_both_names(tmp_path):
    write_json(tmp_path / "layers.json", [{"layer": "a", "index": 0}])
    row = {"path": tmp_path / "layers.json", "merge": "ta", "quantizer": "gptq", "bits": 4, "group_size": None, "seed": 1}
    table = collect_layers("mini", [row, renamed(row)])
    assert list(zip(table["merge"], table["quantizer"], strict=True)) == [("ta", "gptq"), ("ta-too", "gptq-too")]
