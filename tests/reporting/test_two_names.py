"""One model that a suite lists under two names: a merge's, a quantizer's, or both."""

import pandas as pd
import pytest

from pmqbench.files import write_json
from pmqbench.records import write_record
from pmqbench.reporting import PLOTS
from pmqbench.reporting.collect import collect, collect_curves, collect_layers
from pmqbench.reporting.comparisons import compare, compare_all
from pmqbench.reporting.plot_data import PlotData, draw
from pmqbench.reporting.reproduction import compare_published
from pmqbench.reporting.runs import logged_runs
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.tables import leaderboard
from pmqbench.reporting.verdicts import UNCLEAR

OWN = {"merges": {"ta": 0.6}, "quantizers": {"rtn": -0.02, "gptq": 0.0}, "bits": (4,)}
NO_CURVES = collect_curves("mini", [])
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
    # Of one model's two rows, one is above and the other is compared with it; "gptq" is the name under one of the merges.
    by_name = ["above_p", "to_best", "to_best_p", "to_reference", "to_reference_p"]
    table = leaderboard(summary, compare_all(summary, "gptq")).set_index(["merge", "quantizer"]).drop(columns=by_name)
    for quantizer in ("full precision", "rtn"):
        pd.testing.assert_series_equal(table.loc["ta", quantizer], table.loc["ta-too", quantizer], check_names=False)
    pd.testing.assert_series_equal(table.loc["ta", "gptq"], table.loc["ta-too", "gptq-too"], check_names=False)
    assert len(table) == 2 + 2 * 3
    assert compare(summary, "gptq")["against"].eq("reference").sum() == 1  # the other name is under the other merge


def test_two_names_of_one_quantizer_do_not_differ(frame, tasks):
    """Not even where errors are drawn and no examples are."""
    records = frame(**OWN, n=40).assign(correct=None)
    again = records[records["quantizer"] == "gptq"].assign(quantizer="gptq-too")
    pairs = compare(summarise(pd.concat([records, again]), tasks), "gptq").set_index(["quantizer", "reference"])
    same = pairs.loc["gptq-too", "gptq"]
    assert (same["difference"], same["ci_low"], same["ci_high"], same["se_examples"]) == (0, 0, 0, 0)
    assert same["verdict"] == UNCLEAR


def test_plots_show_both_names(records, layers, curves, tasks):
    deviations = layers(**OWN)
    again = deviations.replace({"merge": NAMES["merge"], "quantizer": NAMES["quantizer"]})
    refined = curves(merges=["ta", "ta-too"], quantizers=["gptq", "gptq-too"], bits=(4,))
    data = PlotData(summarise(records, tasks), pd.concat([deviations, again]), refined)
    figures = {name: draw(name, data) for name in PLOTS}
    titles = {name: {axis.get_title() for axis in figure.axes} for name, figure in figures.items()}
    assert {"merge: ta\ngptq, 4 bits", "merge: ta-too\ngptq-too, 4 bits"} <= titles.pop("refinement_curves")
    assert titles.pop("average_by_calibration_time") == {"4 bits"}
    assert titles.pop("average_by_merge") == {""}
    assert [label.get_text() for label in figures["average_by_merge"].axes[0].get_yticklabels()] == ["ta", "ta-too"]
    for name, shown in titles.items():
        assert {title.split(",")[0] for title in shown} == {"merge: ta", "merge: ta-too"}
        assert {"gptq", "gptq-too"} <= {text.get_text() for text in figures[name].legends[0].get_texts()}


def test_runs_and_published_numbers(records, frame, tasks):
    single = frame(**OWN, n=40)
    runs = logged_runs(records, NO_CURVES)
    assert (
        len({run.key for run in runs}) == len(runs) == len(logged_runs(single, NO_CURVES)) + 5
    )  # merged, rtn, gptq with three seeds
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
