"""Tests of differences: by hand, and by how often they are wrong where the truth is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pmqbench.reporting import bootstrap, entries, statistics
from pmqbench.reporting.collect import DTYPES
from pmqbench.reporting.comparisons import compare, compare_ranked, differences, paired_seed_error
from pmqbench.reporting.inference import holm, mcnemar, t_interval
from pmqbench.reporting.mcnemar import mcnemar_tests
from pmqbench.reporting.standing import standing, worst_tasks
from pmqbench.reporting.statistics import summarise

SEEDS = 3
TASKS = ["a", "b"]


@pytest.fixture
def few_replicates(monkeypatch):
    """The bootstrap has no part in differences."""
    for module in (bootstrap, entries, statistics):
        monkeypatch.setattr(module, "REPLICATES", 4)


def records(rows):
    """Collected records: {"kind", "merge", "quantizer", "seed", "task", "outcomes"} each."""
    same = {"suite": "s", "bits": 4, "metric": "accuracy", "size_mb": 1.0, "calibration_seconds": 1.0, "calibration_samples": 0}
    made = [
        same
        | row
        | {
            "model": f"{row['merge']}/{row['quantizer']}",
            "value": row["outcomes"].mean(),
            "n": len(row["outcomes"]),
            "standard_error": row["outcomes"].std(),
            "correct": np.packbits(row["outcomes"]).tobytes(),
            "chosen": "",
        }
        for row in rows
    ]
    return pd.DataFrame(made).reindex(columns=list(DTYPES)).astype(DTYPES)


def reference_rows(n, merges=()):
    """An expert on each task, and merges at full precision."""
    outcomes = np.ones(n, bool)
    expert = [{"kind": "expert", "merge": None, "quantizer": None, "seed": None, "task": task} for task in TASKS]
    merged = [one | {"kind": "merged", "merge": merge} for merge in merges for one in expert]
    return [row | {"outcomes": outcomes} for row in (*expert, *merged)]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]).tolist() == [1, 1]
    assert len(holm([])) == 0


def test_mcnemar_by_hand():
    first, second = np.array([1, 1, 1, 1, 1, 1, 0, 1, 0]), np.array([0, 0, 0, 0, 0, 0, 1, 1, 0])
    assert mcnemar(first, second) == (6, 1, pytest.approx(2 * (1 + 7) / 2**7))
    assert mcnemar(first, first) == (0, 0, 1)


def test_interval_by_hand():
    """Equal errors, of seeds with two degrees of freedom: (1 + 1)^2 / (1 / 2) = 8 in all."""
    half, p = t_interval(np.array([1.0, 3.0]), np.ones(2), np.ones(2), np.full(2, 2.0))
    assert half == pytest.approx(np.sqrt(2) * 2.306004)
    assert p == pytest.approx(2 * stats.t.sf(np.array([1, 3]) / np.sqrt(2), 8))
    normal, p = t_interval(np.array([1.959964, 0.0]), np.array([1.0, 0.0]), np.array([np.nan, 0]), np.full(2, np.inf))
    assert normal == pytest.approx([1.959964, 0])
    assert p == pytest.approx([0.05, 1], abs=1e-6)


@pytest.mark.parametrize(("ratio", "least", "most"), [(0, 0.04, 0.06), (0.5, 0.04, 0.06), (1, 0.04, 0.07), (3, 0.05, 0.08)])
def test_false_positives_by_the_ratio_of_seeds_to_examples(ratio, least, most):
    """20,000 differences of truly equal models whose errors are `ratio` from three seeds and 1 from examples. Shipped suites
    have ratios of 0.2 to 1; beyond, three seeds are too few for an exact test, and these bounds say by how much."""
    rng = np.random.default_rng(0)
    effects = ratio * np.sqrt(SEEDS) * rng.standard_normal((20_000, SEEDS))
    error = effects.std(axis=1, ddof=1) / np.sqrt(SEEDS)
    difference = rng.standard_normal(20_000) + effects.mean(axis=1)
    half, p = t_interval(difference, np.ones(20_000), error, np.full(20_000, SEEDS - 1.0))
    assert least < (p < 0.05).mean() < most
    assert ((p < 0.05) == (abs(difference) > half)).all()


def test_holm_holds_the_error_of_a_table():
    """2,000 tables of 30 comparisons with one reference, so that they depend on each other, none of them truly different."""
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((2_000, 31))
    p = 2 * stats.norm.sf(abs(scores[:, 1:] - scores[:, :1]) / np.sqrt(2))
    wrong = sum(holm(table).min() < 0.05 for table in p)
    assert stats.binomtest(wrong, 2_000, 0.05, alternative="greater").pvalue > 0.01
    assert (p.min(axis=1) < 0.05).mean() > 0.4  # what happens without a correction


def test_the_best_of_equal_models_is_not_clearly_better():
    """In 150 tables of 12 equal models, differences to the best one: corrected for these alone they are often called clear."""
    rng, tables, wrong, alone = np.random.default_rng(8), 150, 0, 0
    names = {"kind": "quantized", "merge": "m", "bits": 4, "group_size": None, "quantizer": list("abcdefghijkl")}
    for _ in range(tables):
        entries = pd.DataFrame(names | {"average": 0.7 + 0.01 * rng.standard_normal(12)})
        one_seed = tuple({None: average} for average in entries["average"])
        table = SimpleNamespace(entries=entries, covariance=0.01**2 * np.eye(12), seed_averages=one_seed)
        pairs = compare_ranked(table)
        best = pairs[pairs["against"] == "best"]
        wrong += (best["verdict"] != "no clear difference").any()
        alone += holm(best["p"]).min() < 0.05
    assert stats.binomtest(int(wrong), tables, 0.05, alternative="greater").pvalue > 0.01
    assert stats.binomtest(int(alone), tables, 0.05, alternative="greater").pvalue < 0.001


MINI = (0.1, 0.2, 0.28, 0.35, 0.4, 0.45, 0.55, 0.63, 0.9, 1.3)  # seeds' error by examples', as on the suite mini


@pytest.mark.parametrize(("seeds", "most"), [(3, 0.1), (5, 0.075)])
def test_false_verdicts_in_a_table(seeds, most):
    """The chance of any false verdict among 36 comparisons of equal models: 5 % is aimed at, three seeds miss it."""
    rng, tables = np.random.default_rng(7), 4_000
    ratio = np.sqrt(3 / seeds) * rng.choice(MINI, (tables * 36, 1))
    effects = ratio * np.sqrt(seeds) * rng.standard_normal((tables * 36, seeds))
    difference = rng.standard_normal(tables * 36) + effects.mean(axis=1)
    error = effects.std(axis=1, ddof=1) / np.sqrt(seeds)
    _, p = t_interval(difference, np.ones(len(error)), error, np.full(len(error), seeds - 1.0))
    wrong = sum(holm(table).min() < 0.05 for table in p.reshape(tables, 36))
    assert stats.binomtest(wrong, tables).proportion_ci(0.99).high < most


def experiments(count, gain, rng, n=250, spread=0.008):
    """`count` merges, each with two quantizers of three seeds, drawn independently; the second is better by `gain` in truth."""
    rows = []
    for number in range(count):
        effects = spread * rng.standard_normal((2, SEEDS)) + np.array([[0], [gain]])
        for task in TASKS:
            difficulty = rng.random(n) * 1.2 - 0.1  # a threshold within (0, 1) has a rate that is linear in it
            for quantizer, thresholds in zip(("gptq", "epmq"), 0.5 + effects, strict=True):
                names = {"kind": "quantized", "merge": f"m{number}", "quantizer": quantizer, "task": task}
                for seed, threshold in enumerate(thresholds):
                    outcomes = difficulty + 0.1 * (rng.random(n) - 0.5) < threshold
                    rows.append(names | {"seed": seed, "outcomes": outcomes})
    return records([*reference_rows(n), *rows])


@pytest.mark.parametrize("gain", [0, 0.03])
def test_coverage_from_records_to_table(few_replicates, gain):
    """The interval of a paired difference holds the truth, and equal models are told apart, as often as stated."""
    count = 200
    pairs = compare(summarise(experiments(count, gain, np.random.default_rng(2)), TASKS), "gptq")
    assert len(pairs) == count
    truth = gain / 1.2
    missed = int(((pairs["ci_low"] > truth) | (pairs["ci_high"] < truth)).sum())
    # An example's accidents under one seed count in both errors, so that the interval is wide rather than narrow.
    assert stats.binomtest(missed, count, 0.05, alternative="greater").pvalue > 0.01
    assert missed > 0
    if gain == 0:
        assert missed == (pairs["p"] < 0.05).sum()
    else:
        assert (pairs["p"] < 0.05).mean() > 0.15


def test_tied_ranks(few_replicates):
    """Equal models share the rank 1 whatever their order; ones that are clearly worse come after as many as are better."""
    rng, n = np.random.default_rng(3), 2000
    rows = reference_rows(n)
    for task in TASKS:
        for level, names in ((0.8, ("a", "b", "c")), (0.6, ("d", "e"))):
            for name in names:
                names_of = {"kind": "quantized", "merge": "m", "quantizer": name, "seed": None, "task": task}
                rows.append(names_of | {"outcomes": rng.random(n) < level})
    summary = summarise(records(rows), TASKS)
    table = standing(summary)
    assert table["tied_rank"].tolist() == [1, 1, 1, 4, 4]
    assert summary.entries["average"][table.index].is_monotonic_decreasing


def test_standing_and_worst_task_by_hand(few_replicates):
    levels = {"x": (0.9, 0.5), "y": (0.6, 0.5), "z": (0.3, 0.8)}
    rows = reference_rows(10) + [
        {
            "kind": "quantized",
            "merge": "m",
            "quantizer": name,
            "seed": None,
            "task": task,
            "outcomes": np.arange(10) < 10 * level,
        }
        for name, both in levels.items()
        for task, level in zip(TASKS, both, strict=True)
    ]
    summary = summarise(records(rows), TASKS)
    table = standing(summary).set_axis([summary.entries["quantizer"][number] for number in standing(summary).index])
    assert table["average_rank"].to_dict() == {"x": 1.75, "y": 2.25, "z": 2.0}
    assert table["win_rate"].to_dict() == {"x": (1 + 0.25) / 2, "y": (0.5 + 0.25) / 2, "z": (0 + 1) / 2}
    assert table["improvability"]["x"] == pytest.approx((0 + (0.5 - 0.2) / 0.5) / 2)
    assert table["improvability"]["z"] == pytest.approx(((0.7 - 0.1) / 0.7 + 0) / 2)
    worst = worst_tasks(summary).set_index(summary.entries["quantizer"])
    assert worst.loc["x"].tolist() == [pytest.approx(0.5), "b"]
    assert worst.loc["z"].tolist() == [pytest.approx(0.3), "a"]


def test_standard_error_of_the_unweighted_mean(few_replicates):
    rng, n = np.random.default_rng(4), 60
    outcomes = {task: rng.random(n) < level for task, level in zip(TASKS, (0.5, 0.9), strict=True)}
    names = {"kind": "quantized", "merge": "m", "quantizer": "rtn", "seed": None}
    rows = reference_rows(n) + [names | {"task": task, "outcomes": one} for task, one in outcomes.items()]
    summary = summarise(records(rows), TASKS)
    expected = np.sqrt(sum(stats.sem(one) ** 2 for one in outcomes.values())) / 2
    assert summary.entries["se_examples"].iloc[-1] == pytest.approx(expected, rel=1e-9)


def test_seeds_of_a_difference_by_hand():
    three = {0: 0.5, 1: 0.6, 2: 0.7}  # standard deviation 0.1
    shifted = {seed: value + gain for (seed, value), gain in zip(three.items(), (0.1, 0.2, 0.3), strict=True)}
    assert paired_seed_error(three, shifted) == pytest.approx((0.1 / np.sqrt(3), 2))
    others = {2: 0.1, 3: 0.2, 4: 0.3}  # one shared seed says nothing of the difference of both means
    assert paired_seed_error(three, others) == pytest.approx((0.1 * np.sqrt(2 / 3), 4))
    for fewer, more in (({0: 0.5}, three), (three, {7: 0.5})):  # one seed is taken to vary as the three do
        assert paired_seed_error(fewer, more) == pytest.approx((0.1 * np.sqrt(1 + 1 / 3), 2))
    assert paired_seed_error({None: 0.5}, three) == pytest.approx((0.1 / np.sqrt(3), 2))
    assert np.isnan(paired_seed_error({0: 0.5}, {0: 0.6})[0])


def test_mcnemar_of_runs(few_replicates):
    """Of seeds that both have, one test each; a model without seeds meets each of the other's; p_holm is over the tasks."""
    rng, n = np.random.default_rng(5), 80
    summary = summarise(experiments(1, 0.1, rng, n), TASKS)
    names = list(summary.entries["quantizer"])
    gptq, epmq = names.index("gptq"), names.index("epmq")
    expert = list(summary.entries["kind"]).index("expert")
    tests = mcnemar_tests(summary, [(epmq, gptq), (epmq, expert)])
    assert tests["seed"].tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert tests["task"].tolist() == TASKS * 6
    for test in tests[tests["other"] == gptq].itertuples():
        runs = (summary.runs.members[entry][test.seed] for entry in (epmq, gptq))
        own, other = (summary.runs.column("value")[run, TASKS.index(test.task)] for run in runs)
        assert test.only_model - test.only_reference == round(n * (own - other))
        assert test.p == stats.binomtest(test.only_model, test.only_model + test.only_reference).pvalue
    first = tests.head(2)
    assert first["p_holm"].tolist() == holm(first["p"]).tolist()


def test_equal_models_do_not_differ_and_one_seed_says_nothing_of_seeds(few_replicates):
    rng, n = np.random.default_rng(6), 50
    rows = reference_rows(n)
    for task in TASKS:
        outcomes = rng.random(n) < 0.5
        names = {"kind": "quantized", "merge": "m", "task": task, "seed": 0}
        rows += [names | {"quantizer": name, "outcomes": outcomes} for name in ("gptq", "epmq")]
        rows.append(names | {"quantizer": "awq", "outcomes": rng.random(n) < 0.5})
    summary = summarise(records(rows), TASKS)
    place = {name: number for number, name in enumerate(summary.entries["quantizer"])}
    table = differences(summary, np.array([place["epmq"], place["awq"]]), np.array([place["gptq"]] * 2))
    assert table.loc[0, ["difference", "ci_low", "ci_high", "se_examples"]].tolist() == [0, 0, 0, 0]
    assert table["p"][0] == 1
    assert table["se_seeds"].isna().all()
    assert table["detectable"][1] == pytest.approx(1.959964 * table["se_examples"][1], rel=1e-6)
