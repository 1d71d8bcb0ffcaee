"""What ablations say of synthetic records whose truth is known, and that their figures show it."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from pmqbench.errors import DataError
from pmqbench.reporting.ablation_figure import draw_ablation, places
from pmqbench.reporting.ablations import BASELINE, judge, sentence, write_ablations
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.style import save
from pmqbench.reporting.verdicts import BETTER, UNCLEAR, WORSE

MERGES = {"ta": 0.62, "wudi": 0.7}
# Gains on the merge: 0 collapses, 10 is clearly better than 1, 3 is the baseline under another name.
GAINS = {"epmq-0": -0.4, "epmq-1": 0.0, "epmq-3": 0.0005, "epmq-10": 0.1, "gptq-0": 0.02, "gptq-1": 0.02}
LABELS = ["0", "1", "3", "10"]


def ablation(labels=LABELS, series=("epmq",), panels=tuple(MERGES), baseline="1", against=None, vary="anchor"):
    """As from `Ablation.describe`; a point's quantizer is called <series>-<label>."""
    points = [
        {"panel": merge, "series": name, "label": label, "merge": merge, "quantizer": f"{name}-{label}", "bits": 4}
        | {"group_size": None}
        for merge in panels
        for name in series
        for label in labels
    ]
    told = {"name": "anchor", "question": "How strong should the anchor be?", "vary": vary, "labels": list(labels)}
    return told | {"baseline": baseline, "against": against, "points": points}


@pytest.fixture(scope="module")
def summary(frame, tasks):
    return summarise(frame(merges=MERGES, quantizers=GAINS, bits=(4,)), tasks)


def test_points_are_judged_against_the_baseline_of_their_series(summary):
    rows = judge(summary, ablation())
    assert list(rows["verdict"]) == [WORSE, BASELINE, UNCLEAR, BETTER] * 2
    averages = summary.entries.set_index(["merge", "quantizer"])["average"]
    for row in rows.itertuples():
        assert row.average == averages[row.merge, row.quantizer]
        assert row.difference == pytest.approx(row.average - averages[row.merge, "epmq-1"])
        assert row.full_precision == averages[row.merge, "full precision"]
        assert row.difference_low <= row.difference <= row.difference_high


def test_series_are_judged_against_another_at_each_label(summary):
    rows = judge(summary, ablation(["0", "1"], ["gptq", "epmq"], baseline=None, against="gptq"))
    own = rows[rows["series"] == "gptq"]
    assert set(own["verdict"]) == {BASELINE}
    assert not own["difference"].any()
    other = rows[rows["series"] == "epmq"]
    assert np.allclose(other["difference"], other["average"].to_numpy() - own["average"].to_numpy())
    assert list(other[other["label"] == "0"]["verdict"]) == [WORSE] * 2
    assert sentence(ablation(["0", "1"], ["gptq", "epmq"], baseline=None, against="gptq"), rows).startswith(
        "epmq against gptq, "
    )


def test_a_point_without_records_is_named(summary):
    with pytest.raises(DataError, match="ta, epmq-7, 4 bits"):
        judge(summary, ablation(["1", "7"]))


def told(verdicts):
    """The rows of a question, label -> (verdict, difference in points) for each of the panels."""
    rows = [
        {"panel": panel, "series": "epmq", "label": label, "verdict": verdict, "difference": points / 100}
        | {"difference_low": points / 100 - 0.013, "difference_high": points / 100 + 0.013}
        for label, panels in verdicts.items()
        for panel, (verdict, points) in zip(MERGES, panels, strict=False)
    ]
    return pd.DataFrame(rows)


def test_the_sentence_says_where_and_how_much():
    rows = told(
        {
            "0": [(WORSE, -31.04), (WORSE, -28.4)],
            "1": [(BASELINE, 0), (BASELINE, 0)],
            "3": [(UNCLEAR, 0.3), (UNCLEAR, -0.2)],
            "10": [(UNCLEAR, 0.5), (BETTER, 1.25)],
        }
    )
    assert sentence(ablation(), rows) == (
        "Against 1, better: 10 (wudi: +1.2). Worse: 0 (everywhere: -31.0 to -28.4). "
        "No clear difference: 3 (everywhere); 10 (ta); intervals reach 1.3 points to either side."
    )


def test_a_sentence_without_a_clear_difference_says_so_and_nothing_else():
    rows = told({"0": [(UNCLEAR, 0.4)], "1": [(BASELINE, 0)]})
    said = sentence(ablation(["0", "1"], panels=["ta"]), rows)
    assert said == "Against 1, no clear difference: 0 (ta); intervals reach 1.3 points to either side."


def test_tables_hold_every_point_and_the_sentence(summary, tmp_path):
    question = ablation()
    rows = judge(summary, question)
    write_ablations("mini", [(question, rows)], csv=tmp_path / "a.csv", markdown=tmp_path / "a.md")
    table = pd.read_csv(tmp_path / "a.csv")
    assert len(table) == len(rows)
    assert np.allclose(table["difference"], 100 * rows["difference"], atol=0.0051)
    text = (tmp_path / "a.md").read_text()
    assert sentence(question, rows) in text
    assert "](ablations/anchor.svg)" in text
    assert text.count("| epmq |") == len(rows)


def test_the_figure_shows_every_point_and_which_are_clear(summary, tmp_path):
    question = ablation()
    rows = judge(summary, question)
    figure = draw_ablation("mini", question, rows)
    above, below = figure.axes[:2], figure.axes[2:]
    assert [axis.get_title() for axis in above] == list(MERGES)
    for panel, axis in zip(MERGES, below, strict=True):
        assert [label.get_text() for label in axis.get_xticklabels()] == LABELS
        own = rows[rows["panel"] == panel]
        drawn = {line.get_markerfacecolor(): line for line in axis.lines if line.get_marker() not in ("None", "", None)}
        hollow = drawn.pop("white")
        (filled,) = drawn.values()
        assert list(hollow.get_ydata()) == list(100 * own["difference"][own["verdict"].isin([UNCLEAR, BASELINE])])
        assert list(filled.get_ydata()) == list(100 * own["difference"][own["verdict"].isin([BETTER, WORSE])])
        assert to_rgba(filled.get_markerfacecolor()) == to_rgba(hollow.get_markeredgecolor())
    assert figure.legends[0].get_title().get_text() == question["question"]
    save(figure, tmp_path / "figure.svg", tmp_path / "figure.png")
    assert (tmp_path / "figure.svg").stat().st_size > 10_000


def test_places_of_labels():
    assert places(["student", "mix"]) == [0, 1]
    assert places(["2", "3", "4", "8"]) == [2, 3, 4, 8]
    assert places(["0.1", "1", "100"]) == [-1, 0, 2]
    assert places(["0", "0.1", "1", "10"]) == [-2, -1, 0, 1]
