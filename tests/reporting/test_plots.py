import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation, Text

import pmqbench
from pmqbench.reporting import PLOTS
from pmqbench.reporting.collect import collect_curves
from pmqbench.reporting.labels import spread
from pmqbench.reporting.pareto import beside, pareto_front
from pmqbench.reporting.plot_data import PlotData, draw
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.style import WELL_KNOWN, even_columns, save, styles

MANY = {name: 0.01 * place for place, name in enumerate(("rtn", "gptq", "awq", "epmq", "epmq-expert", "gptaq", "qep", "mix"))}
NO_CURVES = collect_curves("mini", [])
TWENTY = [f"a-long-name-{number}" for number in range(20)]


@pytest.fixture(scope="module", params=["few", "many"])
def figures(request, frame, layers, curves, tasks):
    """All plots of the default suite with two group sizes, and of one with 20 tasks, five merges and eight methods."""
    options = {"n": 40}
    if request.param == "many":
        tasks = TWENTY
        options |= {"tasks": tasks, "merges": {f"merge-{i}": 0.6 for i in range(5)}, "quantizers": MANY, "bits": (2, 4)}
        frames, blocks = frame(**options), 12
    else:
        frames, blocks = frame(**options, groups=(None, 64)), 3
    shape = {key: options[key] for key in ("merges", "quantizers", "bits") if key in options} | {
        "tasks": tasks,
        "blocks": blocks,
    }
    refined = {key: shape[key] for key in ("merges",) if key in shape}
    data = PlotData(summarise(frames, tasks), layers(**shape), curves(**refined))
    return request.param, {name: draw(name, data) for name in PLOTS}


def visible_texts(figure):
    """Every text that is drawn, with its box in pixels."""
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    ticks = [tick for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for tick in (*axis.majorTicks, *axis.minorTicks)]
    drawn = [tick for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]
    off_view = {id(tick.label1) for tick in ticks} - {id(tick.label1) for tick in drawn}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in off_view:
            # An annotation's own extent would include its leader line.
            yield (
                text,
                Text.get_window_extent(text, renderer) if isinstance(text, Annotation) else text.get_window_extent(renderer),
            )


def test_no_text_overlaps_another_or_leaves_the_figure(figures):
    for name, figure in figures[1].items():
        found = list(visible_texts(figure))
        assert len(found) > 10
        for text, box in found:
            assert ((figure.bbox.min - 1 <= box.min) & (box.max <= figure.bbox.max + 1)).all(), (name, text)
        turned = {
            id(text) for text, _ in found if text.get_rotation() % 90
        }  # boxes of slanted labels overlap, the letters do not
        for (first, box), (second, other) in itertools.combinations(found, 2):
            if id(first) not in turned and id(second) not in turned:
                assert not box.padded(-1).overlaps(other.padded(-1)), (name, first, second)


def test_axes_are_labelled_and_every_method_is_in_the_legend(figures):
    size, drawn = figures
    average = "average over tasks (%)"
    labels = {"tasks_by_method": "task metric (%)", "average_by_bits": average, "average_by_size": average}
    panels = {"tasks_by_method": 2, "deviations_by_layer": 4}  # per merge: two widths, and two deviations
    own = drawn.pop("refinement_curves"), drawn.pop("average_by_calibration_time")
    by_merge = drawn.pop("average_by_merge")
    for name, figure in drawn.items():
        assert len(figure.axes) == (5 if size == "many" else 3) * panels.get(name, 1)
        for axis in figure.axes:
            assert axis.get_title().startswith("merge: ")
            assert axis.get_xlabel() or name == "tasks_by_method"
            assert axis.get_ylabel() == labels.get(name, axis.get_ylabel())
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        expected = set(MANY if size == "many" else WELL_KNOWN) - ({"rtn"} if name == "deviations_by_layer" else set())
        assert expected <= set(legend)
        assert len(legend) == len(set(legend))
        assert "Suite mini" in figure.get_supxlabel()
    curves, times = own
    assert [axis.get_title() for axis in times.axes] == [f"{bits} bits" for bits in ((4, 2) if size == "many" else (4, 3))]
    assert set(MANY if size == "many" else WELL_KNOWN) <= {text.get_text() for text in times.legends[0].get_texts()}
    assert {text.get_text() for text in curves.legends[0].get_texts()} >= {"seed 0", "seed 1", "seed 2"}
    assert len(curves.axes) == (5 if size == "many" else 3) * 2
    assert drawn["average_by_bits"].axes[0].get_xlabel() == "bits per weight, logarithmic"
    assert by_merge.axes[0].get_xlabel() == average
    for name in panels:
        titles = [axis.get_title() for axis in drawn[name].axes]
        assert {title.rsplit(", ", 1)[1] for title in titles} == (
            {"4 bits", "2 bits"} if size == "many" else {"4 bits", "3 bits"}
        )
    assert "MB" in drawn["average_by_size"].axes[0].get_xlabel()
    for figure in (times, drawn["average_by_size"]):
        assert len({axis.get_xlim() for axis in figure.axes}) == 1
    assert "bootstrap" in drawn["average_by_bits"].get_supxlabel()
    assert "quantization deviation" in drawn["deviations_by_layer"].axes[0].get_ylabel()
    assert drawn["deviations_by_layer"].axes[0].get_yscale() == "log"


def test_layer_plot_without_calibrated_methods(frame, layers, tasks):
    figure = draw("deviations_by_layer", PlotData(summarise(frame(n=40), tasks), layers(quantizers={"rtn": 0.0}), NO_CURVES))
    assert not figure.axes
    assert "none has deviations" in figure.texts[0].get_text()


def colours(figure):
    """Label in the legend -> colour; and the colours of what is drawn."""
    legend = {
        text.get_text(): line.get_color()
        for text, line in zip(figure.legends[0].get_texts(), figure.legends[0].get_lines(), strict=True)
    }
    return legend, {line.get_color() for axis in figure.axes for line in axis.lines}


def test_a_quantizer_has_one_colour_in_all_plots_also_where_a_panel_has_few(frame, layers, tasks):
    """Of one merge, most methods; of the others, one: these have no panel, and take no colour away."""
    whole = frame(n=40, quantizers=MANY)
    few = whole[
        whole["merge"].isin(["ta-0.3"]) | whole["quantizer"].isna() | (whole["quantizer"].eq("mix") & whole["bits"].eq(4))
    ]
    deviating = layers(quantizers=MANY)
    deviating = deviating[deviating["merge"].eq("ta-0.3") | (deviating["quantizer"].eq("mix") & deviating["bits"].eq(4))]
    data = PlotData(summarise(few, tasks), deviating, NO_CURVES)
    expected = {name: style.colour for name, style in styles(MANY).items()}
    for name in ("average_by_bits", "average_by_size", "tasks_by_method", "deviations_by_layer", "average_by_merge"):
        figure = draw(name, data)
        legend, drawn = colours(figure)
        shown = {label: colour for label, colour in legend.items() if label in MANY}
        assert shown == {label: expected[label] for label in shown}
        assert set(shown.values()) <= drawn
        if name != "average_by_merge":
            assert {axis.get_title().split(",")[0] for axis in figure.axes} == {"merge: ta-0.3"}
            assert "2 more merges" in figure.get_supxlabel().replace("\n", " ")
            assert set(shown) == set(MANY) - ({"rtn"} if name == "deviations_by_layer" else set())
    axis = draw("average_by_merge", data).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ta-0.3", "ties-0.3", "ta-tuned"]
    assert set(colours(draw("average_by_merge", data))[0]) == {"full precision", "mix"}


def test_single_values_far_below_do_not_squeeze_the_layers(frame, layers, tasks):
    table = layers()
    summary = summarise(frame(n=40), tasks)
    before = draw("deviations_by_layer", PlotData(summary, table, NO_CURVES)).axes[0].get_ylim()
    table.loc[table["quantization.relative"].idxmax(), "quantization.relative"] = 1e-12
    after = draw("deviations_by_layer", PlotData(summary, table, NO_CURVES)).axes[0].get_ylim()
    assert before[0] / 2.5 < after[0] <= before[0]


def test_a_plot_is_one_file(tmp_path):
    """A file more is a plot more, and naming plots imports no matplotlib."""
    shutil.copytree(Path(pmqbench.__file__).parent, tmp_path / "pmqbench", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pmqbench/reporting/plots/mine.py").write_text("def draw(data):\n    return f'drawn {data}'\n")
    code = (
        "import sys; from pmqbench.reporting import PLOTS; named = 'matplotlib' in sys.modules;"
        "from pmqbench.reporting.plot_data import draw; print(sorted(PLOTS), named, draw('mine', 7))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{sorted([*PLOTS, 'mine'])} False drawn 7"


def test_points_are_the_values_of_every_width(frame, layers, tasks):
    summary = summarise(frame(n=60), tasks)
    entries = summary.entries
    axes = draw("tasks_by_method", PlotData(summary, layers(), NO_CURVES)).axes
    for axis, bits in zip(axes[:2], (4, 3), strict=True):
        assert axis.get_title() == f"merge: ta-0.3, {bits} bits"
        chosen = entries.index[(entries["merge"] == "ta-0.3") & entries["bits"].isin([bits, 32])]
        heights = {round(float(value), 6) for line in axis.lines for value in line.get_ydata()}
        assert heights == {round(100 * value, 6) for value in summary.values[chosen].ravel()}


def test_best_at_equal_cost_is_on_the_front(frame, layers, tasks):
    """Each panel labels what beats all that took less time; by the front's definition, on all of its points."""
    summary = summarise(frame(n=60, bits=(4,)), tasks)
    (axis,) = draw("average_by_calibration_time", PlotData(summary, layers(), NO_CURVES)).axes
    shown = {text.get_text() for text in axis.texts}
    entries = summary.entries[summary.entries["kind"].isin(["merged", "quantized"])]
    best = set()
    for _, row in entries.iterrows():
        cheaper = entries[entries["calibration_seconds"] < row["calibration_seconds"]]
        equal = entries[entries["calibration_seconds"] == row["calibration_seconds"]]
        if row["average"] > cheaper["average"].max() or (cheaper.empty and row["average"] == equal["average"].max()):
            name = row["merge"] + (f", {row['quantizer']}" if row["kind"] == "quantized" else "")
            best.add(name + ("*" if row["chosen"] else ""))
    assert shown == best
    assert any(name.endswith("*") for name in best)
    assert axis.get_xscale() == "log"


def test_front_by_hand():
    rows = pd.DataFrame({"cost": [1.0, 1.0, 2.0, 3.0, 4.0], "average": [0.5, 0.6, 0.55, 0.6, 0.7]})
    assert list(pareto_front(rows, "cost").index) == [1, 4]


def test_models_of_one_size_stand_beside_each_other_by_average():
    rows = pd.DataFrame({"cost": [1.0, 10.0, 1.0, 1.001], "average": [0.5, 0.6, 0.7, 0.6]}, index=[3, 5, 7, 9])
    place = beside(rows, "cost")
    assert np.isclose(place[5], 10)
    assert place[3] < place[9] < place[7]
    steps = np.diff(np.log(place[[3, 9, 7]]))
    assert np.allclose(steps, 0.022 * np.log(10))
    assert abs(np.log(place[[3, 9, 7]]).mean()) < 0.001


def test_points_are_at_their_true_bits_and_whiskers_beside_them(frame, layers, tasks):
    summary = summarise(frame(n=60, bits=(2, 3, 8)), tasks)
    axis = draw("average_by_bits", PlotData(summary, layers(), NO_CURVES)).axes[0]
    joined = [line for line in axis.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    assert [list(line.get_xdata()) for line in joined] == [[2, 3, 8]] * 5
    whiskers = [collection.get_segments() for collection in axis.collections]
    places = sorted({round(segment[0][0], 6) for segments in whiskers for segment in segments})
    assert len(places) == 5 * 3
    assert all(min(abs(np.log2(place / bits)) for bits in (2, 3, 8)) <= 0.2 * np.log2(3 / 2) + 1e-6 for place in places)


def test_whiskers_that_could_not_be_told_apart_are_left_out(frame, layers, tasks):
    many = {f"method-{number}": 0.002 * number for number in range(13)}
    summary = summarise(frame(n=40, merges={"ta-0.3": 0.6}, quantizers=many, bits=(2, 3, 4, 8)), tasks)
    data = PlotData(summary, layers(), NO_CURVES)
    bits, size = draw("average_by_bits", data), draw("average_by_size", data)
    assert not bits.axes[0].collections
    assert "more than 12 methods have none" in bits.get_supxlabel().replace("\n", " ")
    assert len(size.axes[0].texts) <= len(size.axes[0].collections) < 13 * 4  # the front's, and the merge's own if it is on it
    assert "only the front has whiskers" in size.get_supxlabel().replace("\n", " ")


def test_models_fill_the_panels_and_references_beyond_are_named(frame, layers, tasks):
    summary = summarise(frame(n=60), tasks)
    axis = draw("average_by_bits", PlotData(summary, layers(), NO_CURVES)).axes[0]
    low, high = axis.get_ylim()
    entries = summary.entries.set_index("merge")["average"] * 100
    assert entries["individual experts"] > high
    shown = [text.get_text() for text in axis.texts]
    assert f"↑ individual experts {entries['individual experts']:.1f}" in shown
    assert (f"↓ pre-trained {entries['pre-trained']:.1f}" in shown) == (entries["pre-trained"] < low)


@pytest.mark.parametrize(("count", "most", "columns"), [(9, 8, 5), (9, 4, 3), (8, 8, 8), (1, 5, 1), (5, 0, 1)])
def test_legends_wrap_evenly(count, most, columns):
    assert even_columns(count, most) == columns


def test_an_svg_has_text_a_title_and_its_caption(tmp_path, frame, layers, tasks):
    figure = draw("average_by_bits", PlotData(summarise(frame(n=40), tasks), layers(), NO_CURVES))
    save(figure, tmp_path / "average_by_bits.svg")
    svg = (tmp_path / "average_by_bits.svg").read_text()
    assert "<title>average by bits</title>" in svg
    assert "<dc:description>Suite mini: average over 4 tasks." in svg
    for words in ("merge: ta-tuned", "epmq-expert", "bits per weight, logarithmic"):
        assert f">{words}</text>" in svg


def test_curves_show_every_seed_and_what_was_kept(frame, layers, curves, tasks):
    summary = summarise(frame(n=40), tasks)
    axis = draw("refinement_curves", PlotData(summary, layers(), curves(merges=["ta-0.3"], bits=(4,)))).axes[0]
    stars = [line for line in axis.lines if line.get_marker() == "*"]
    assert [list(line.get_xdata()) for line in stars] == [[40], [40], [40]]  # conftest: the last but one of the held-out losses
    dashed = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert [list(line.get_xdata()) for line in dashed] == [[0, 20, 40, 60]] * 3


def test_a_suite_without_refinements_says_so(frame, layers, tasks):
    figure = draw("refinement_curves", PlotData(summarise(frame(n=40), tasks), layers(), NO_CURVES))
    assert [text.get_text() for text in figure.texts] == ["Suite mini: no model was refined."]
    assert not figure.axes


def test_saved_files_are_whole_and_repeat(tmp_path, frame, layers, tasks):
    for folder in ("first", "second"):
        figure = draw("average_by_bits", PlotData(summarise(frame(n=40), tasks), layers(), NO_CURVES))
        save(figure, tmp_path / folder / "a.svg", tmp_path / folder / "a.png")
    for name in ("a.svg", "a.png"):
        first, second = (tmp_path / folder / name for folder in ("first", "second"))
        assert len(first.read_bytes()) > 10_000
        assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "first" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_styles_are_fixed_and_distinct():
    names = [f"method-{number}" for number in range(20)]
    many = styles([*names, "gptq"])
    assert many["gptq"] == styles(["gptq"])["gptq"]
    assert many == styles(reversed([*names, "gptq"]))
    assert len(set(many.values())) == len(many)


def test_spread_keeps_order_and_distance():
    placed = spread([1.0, 1.1, 1.2, 5.0, 9.9], 1.0, 10.0)
    assert placed == [1.0, 2.0, 3.0, 5.0, 9.5]
    crowded = spread([9.0, 9.1, 9.2], 1.0, 10.0)
    assert crowded == [7.5, 8.5, 9.5]
