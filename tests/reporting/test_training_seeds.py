"""Variance by training seed, calibration seed and examples: components that simulated records have are found again."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pmqbench.errors import DataError
from pmqbench.reporting.inference import t_interval
from pmqbench.reporting.style import save
from pmqbench.reporting.terminal import show
from pmqbench.reporting.training_figure import draw_training
from pmqbench.reporting.training_seeds import arrange_training, averages, differences
from pmqbench.reporting.training_tables import sentence, summary_sentences, write_training
from pmqbench.reporting.variance import average_of, components, errors_of_mean, mean_square

WIDTH = 2.0  # of the uniform difficulty, so that rates are linear in a threshold


def difficulties(rng, size=150, tasks=2):
    """Per task, how hard its test examples are."""
    return [WIDTH * (rng.random((1, 1, size)) - 0.25) for _ in range(tasks)]


def simulated(rng, tests, gain=0.0, training=0.0, calibration=0.0, both=0.0, examples=0.3, seeds=(3, 3)):
    """A model's outcomes per task; its threshold varies with seeds by these standard deviations.

    `examples` is how far, at most, an example's difficulty moves with the training seed.
    """
    sizes = ((training, (seeds[0], 1, 1)), (calibration, (1, seeds[1], 1)), (both, (*seeds, 1)))
    threshold = 0.5 + gain + sum(size * rng.standard_normal(axes) for size, axes in sizes)
    moved = [examples * (2 * rng.random((seeds[0], 1, test.size)) - 1) for test in tests]
    return [(test + shift < threshold).astype(float) for test, shift in zip(tests, moved, strict=True)]


def test_mean_squares_by_hand():
    values = np.array([[1.0, 2.0], [3.0, 8.0]])
    assert [mean_square(values, factors) for factors in ((0,), (1,), (0, 1))] == [16, 9, 4]
    assert mean_square(values[:, :1], (0, 1)) == 0
    groups = np.random.default_rng(0).random((4, 6))
    within = groups.var(axis=1, ddof=1).mean()
    assert mean_square(groups, (0,)) / within == pytest.approx(stats.f_oneway(*groups).statistic)


def test_components_are_found_again():
    """Means of 400 estimates; without taking off what examples do, that of training would be far too large."""
    rng = np.random.default_rng(1)
    truth = {"training": 0.03, "calibration": 0.012, "both": 0.02}
    runs = [simulated(rng, difficulties(rng), **truth) for _ in range(400)]
    found = pd.DataFrame([vars(components(run, calibrated=True)) for run in runs])
    squares = {name: (size / WIDTH) ** 2 for name, size in truth.items()}
    of_calibration = squares["calibration"] + squares["both"]
    of_examples = (0.5 * 0.5 - squares["training"] - of_calibration) / 150 / 2
    expected = {"training": squares["training"], "calibration": of_calibration, "examples": of_examples}
    error = found.sem()
    for name, value in expected.items():
        assert abs(found[name].mean() - value) < 4 * error[name], name
    assert expected["training"] > 4 * error["training"]
    assert expected["calibration"] > 4 * error["calibration"]
    plain = pd.Series([average_of(run).mean(axis=1).var(ddof=1) for run in runs])
    assert plain.mean() - expected["training"] > 4 * plain.sem()


def test_nothing_varies_with_a_seed_that_does_nothing():
    rng = np.random.default_rng(2)
    one = simulated(rng, difficulties(rng), examples=0.0)
    found = components(one, calibrated=True)
    assert (found.training, found.calibration) == pytest.approx((0, 0), abs=1e-15)
    assert found.examples == pytest.approx(sum(stats.sem(task[0, 0]) ** 2 for task in one) / 4)
    alone = [task[:, :1] for task in one]
    assert np.isnan(components(alone, calibrated=True).calibration)
    assert components(alone, calibrated=False).calibration == 0


@pytest.mark.parametrize("spread", [{}, {"training": 0.05}, {"training": 0.02, "both": 0.03}, {"calibration": 0.05}])
def test_intervals_cover_other_seeds_and_examples(spread):
    """Of two models, each with seeds' effects of its own, the true difference is missed about as often as stated."""
    rng, count, gain = np.random.default_rng(3), 600, 0.04
    missed = overlooked = 0
    for _ in range(count):
        tests = difficulties(rng)
        first, second = simulated(rng, tests, gain, **spread), simulated(rng, tests, **spread)
        paired = [one - two for one, two in zip(first, second, strict=True)]
        examples, seeds, freedom = errors_of_mean(paired)
        off = abs(average_of(paired).mean() - gain / WIDTH)
        (half,), _ = t_interval(*(np.array([one]) for one in (0.0, examples, seeds, freedom)))
        missed += off > half
        overlooked += off > 1.96 * examples
    assert stats.binomtest(missed, count, 0.05, alternative="greater").pvalue > 0.01
    assert missed > 0
    if any(size >= 0.05 for size in spread.values()):  # what an interval from examples alone would miss
        assert overlooked > 0.2 * count


LEVELS = {"gptq": (0.70, 0.66, 0.68), "distilled": (0.80, 0.77, 0.78), "rtn": (0.71, 0.65, 0.69)}


@pytest.fixture
def records(frame):
    """Collected records of three training seeds: `distilled` is always better than gptq, `rtn` better or worse."""
    plain = frame(merges={"ta": 0.7}, quantizers={"rtn": 0, "gptq": 0, "epmq": 0}, bits=(4,), n=400)
    rng, tables = np.random.default_rng(4), []
    for seed in range(3):
        table = plain.assign(training_seed=seed).replace({"quantizer": {"epmq": "distilled"}})
        outcomes = [rng.random(400) < LEVELS.get(name, (0.7, 0.68, 0.69))[seed] for name in table["quantizer"]]
        same_examples = [np.sort(one)[::-1] for one in outcomes]
        values = [one.mean() for one in outcomes]
        tables.append(table.assign(correct=[np.packbits(one).tobytes() for one in same_examples], value=values))
    return pd.concat(tables, ignore_index=True)


def test_from_records_to_tables_sentences_and_figure(records, tasks, tmp_path, capsys):
    trained = arrange_training(records, tasks)
    own, compared = averages(trained), differences(trained, "gptq")
    row = compared[(compared["quantizer"] == "distilled") & (compared["against"] == "reference")].iloc[0]
    ours = records[records["quantizer"].isin(["distilled", "gptq"])]
    by_seed = ours.groupby(["training_seed", "quantizer"])["value"].mean().unstack()
    expected = by_seed["distilled"] - by_seed["gptq"]
    assert row[["seed 0", "seed 1", "seed 2"]].tolist() == pytest.approx(expected.tolist())
    assert row["difference"] == pytest.approx(expected.mean())
    assert row["seeds_agree"] == 3
    paths = {"csv": tmp_path / "variance.csv", "csv_of_differences": tmp_path / "differences.csv"}
    write_training("mini", own, compared, trained.seeds, markdown=tmp_path / "variance.md", **paths)
    text = (tmp_path / "variance.md").read_text()
    assert "- distilled beats gptq (ta at 4 bits) at each of 3 training seeds: +9." in text
    assert "- rtn against gptq (ta at 4 bits) depends on the training seed (" in text
    show(tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert f"- {said[-2]}" in text
    assert said[-1] == f"Open {tmp_path}/variance.md."
    assert len(said) == 3  # two differences to gptq; those to full precision are in the file
    table = pd.read_csv(paths["csv"])
    assert table.columns.tolist()[:4] == ["merge", "quantizer", "bits", "group_size"]
    assert (table.loc[table["merge"].isin(["pre-trained", "individual experts"]), "sd_calibration"] == 0).all()
    save(draw_training("mini", own, compared, trained.seeds), tmp_path / "variance.svg")
    assert "ta at 4 bits" in (tmp_path / "variance.svg").read_text()


def test_what_one_calibration_seed_does_is_not_known(records, tasks):
    trained = arrange_training(records[records["seed"].isna() | (records["seed"] == 0)], tasks)
    said = summary_sentences(averages(trained), differences(trained, "gptq"), trained.seeds)
    assert "from training seeds and " in said
    assert "calibration seed" not in said


def test_a_merge_with_the_reference_alone_has_no_difference_to_tell(records, tasks):
    trained = arrange_training(records, tasks)
    own, compared = averages(trained), differences(trained, "gptq")
    alone = own[own["quantizer"] == "gptq"].assign(merge="wudi")
    _, of_ta, of_wudi = re.split("Under ", summary_sentences(pd.concat([own, alone]), compared, trained.seeds))
    assert "its difference of" in of_ta
    assert of_wudi.endswith("from examples.")
    assert "its difference of" not in of_wudi


def test_seeds_that_cannot_be_compared_are_refused(records, tasks):
    with pytest.raises(DataError, match=r"training seed 2: its models are not those of the others"):
        arrange_training(records[(records["training_seed"] < 2) | (records["quantizer"] != "rtn")], tasks)
    with pytest.raises(DataError, match=r"no outcome for each example"):
        arrange_training(records.assign(correct=None), tasks)


@pytest.mark.parametrize(
    ("difference", "p", "agree", "said"),
    [
        (0.067, 0.001, 3, "distilled beats gptq (wudi at 2 bits) at each of 3 training seeds: +6.7 [+5.7, +7.7]."),
        (-0.067, 0.001, 3, "distilled loses to gptq (wudi at 2 bits) at each of 3 training seeds: -6.7 [-7.7, -5.7]."),
        (0.067, 0.2, 3, "is above gptq (wudi at 2 bits) at each of 3 training seeds, but not clearly: +6.7 [+5.7, +7.7]."),
        (0.067, 0.2, 2, "depends on the training seed (-0.3, +10.4, +10.0): no clear difference, +6.7 [+5.7, +7.7]."),
        (0.067, 0.001, 2, "depends on the training seed (-0.3, +10.4, +10.0): better on average, +6.7 [+5.7, +7.7]."),
    ],
)
def test_sentences(difference, p, agree, said):
    names = {"merge": "wudi", "quantizer": "distilled", "bits": 2, "group_size": None, "reference": "gptq"}
    seeds = {"seed 0": -0.003, "seed 1": 0.104, "seed 2": 0.1, "seeds_agree": agree, "p_holm": p}
    row = names | seeds | {"difference": difference, "ci_low": difference - 0.01, "ci_high": difference + 0.01}
    assert sentence(row, (0, 1, 2)).endswith(said)
