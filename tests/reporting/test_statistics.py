import numpy as np
import pandas as pd
import pytest

from pmqbench.errors import DataError
from pmqbench.reporting.bootstrap import REPLICATES, draw_errors, seed_weights
from pmqbench.reporting.collect import DTYPES
from pmqbench.reporting.comparisons import compare, compare_all
from pmqbench.reporting.report_warnings import useless_experts
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.tables import leaderboard


def row(merge, quantizer, seed, outcomes, kind="quantized", task="a", bits=4, **changes):
    outcomes = np.asarray(outcomes)
    value = outcomes.mean()
    error = np.sqrt(value * (1 - value) / len(outcomes))
    made = {"suite": "s", "kind": kind, "model": f"{merge}/{quantizer}", "merge": merge, "quantizer": quantizer, "bits": bits}
    measured = {"seed": seed, "task": task, "metric": "accuracy", "value": value, "n": len(outcomes), "standard_error": error}
    made |= {"calibration_seconds": 1.0, "calibration_samples": 0, "chosen": ""}
    rest = {"correct": np.packbits(outcomes.astype(bool)).tobytes(), "size_mb": 1.0, "provenance": "{}", "warnings": "[]"}
    return made | measured | rest | changes


def table(*rows):
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)


def references(n, rng, task="a"):
    expert = row(None, None, None, rng.random(n) < 0.9, kind="expert", task=task, bits=32)
    return expert, row("ta", None, None, rng.random(n) < 0.7, kind="merged", task=task, bits=32)


def entry(summary, quantizer):
    return summary.entries[summary.entries["quantizer"] == quantizer].iloc[0]


def test_averages_and_normalised_by_hand():
    rng = np.random.default_rng(0)
    rows, values = [], {}
    for task, n in (("a", 40), ("b", 160)):
        rows += references(n, rng, task)
        for seed in (0, 1, 2):
            outcomes = rng.random(n) < 0.6
            rows.append(row("ta", "gptq", seed, outcomes, task=task))
            values[task, seed] = outcomes.mean()
    summary = summarise(table(*rows), ["a", "b"])
    by_seed = [(values["a", seed] + values["b", seed]) / 2 for seed in range(3)]
    got = entry(summary, "gptq")
    assert got["average"] == pytest.approx(np.mean(by_seed), abs=1e-12)
    assert got["se_seeds"] == pytest.approx(np.sqrt(np.var(by_seed, ddof=1) / 3), abs=1e-12)
    assert got["seeds"] == 3
    experts = {one["task"]: one["value"] for one in rows if one["kind"] == "expert"}
    expected = np.mean([np.mean([values[task, seed] for seed in range(3)]) / experts[task] for task in ("a", "b")])
    assert got["normalised"] == pytest.approx(expected, abs=1e-12)
    assert summary.entries.iloc[0]["normalised"] == 1


def test_an_expert_that_scores_nothing_leaves_the_rest_standing():
    rng = np.random.default_rng(2)
    rows = references(30, rng)
    (expert,) = [one for one in rows if one["kind"] == "expert"]
    expert |= row(None, None, None, np.zeros(30, bool), kind="expert")
    records = table(*rows, row("ta", "rtn", None, rng.random(30) < 0.5))
    summary = summarise(records, ["a"])
    assert summary.entries["normalised"].isna().all()
    assert summary.entries["average"].notna().all()
    assert [message.split(",")[0] for message in useless_experts(records)] == ["the expert of a scores nothing"]
    shown = leaderboard(summary, compare_all(summary, "rtn"))
    assert set(shown["normalised"]) == set(shown["worst"]) == set(shown["worst_task"]) == {""}


def test_interval_of_one_run_is_the_binomial_one():
    rng = np.random.default_rng(1)
    n, outcomes = 2000, rng.random(2000) < 0.3
    summary = summarise(table(*references(n, rng), row("ta", "rtn", None, outcomes)), ["a"])
    got, p = entry(summary, "rtn"), outcomes.mean()
    error = np.sqrt(p * (1 - p) / n)
    assert got["se_examples"] == pytest.approx(error, rel=0.05)
    assert (got["ci_low"], got["ci_high"]) == pytest.approx((p - 1.96 * error, p + 1.96 * error), abs=0.15 * error)
    assert got["se_seeds"] == 0


def test_interval_covers_the_truth():
    """Seeds and examples both vary: the interval must hold the expected accuracy in about 95 % of repetitions."""
    rng = np.random.default_rng(2)
    n, seeds, p, between, covered = 400, 10, 0.6, 0.03, 0
    repetitions = 60
    for _ in range(repetitions):
        difficulty = rng.random(n)
        runs = [row("ta", "gptq", seed, difficulty < p + between * rng.standard_normal()) for seed in range(seeds)]
        got = entry(summarise(table(*references(n, rng), *runs), ["a"]), "gptq")
        covered += got["ci_low"] <= p <= got["ci_high"]
    # 95 % +- 3 standard errors of 60 repetitions; few seeds make the true coverage a little lower.
    assert 0.84 <= covered / repetitions <= 1


def test_variance_over_seeds_is_unbiased():
    """Every example alike, so only seeds vary: the bootstrap's variance must be s^2/S, not (S - 1)/S of it."""
    n = 100
    runs = [row("ta", "gptq", seed, np.arange(n) < n * p) for seed, p in enumerate((0.2, 0.5, 0.6))]
    rng = np.random.default_rng(3)
    summary = summarise(table(*references(n, rng), *runs), ["a"])
    index = summary.entries.index[summary.entries["quantizer"] == "gptq"][0]
    variance = summary.replicates[index].var() - summary.covariance[index, index]
    expected = np.var([0.2, 0.5, 0.6], ddof=1) / 3
    assert variance == pytest.approx(expected, rel=0.15)


def test_paired_difference():
    """Two models that differ on few examples: the difference is much sharper than the two intervals."""
    rng = np.random.default_rng(4)
    n = 1000
    base = rng.random(n) < 0.6
    better = base.copy()
    better[np.flatnonzero(~base)[:20]] = True
    rows = [row("ta", "gptq", None, base), row("ta", "epmq", None, better), row("ta", "rtn", None, rng.random(n) < 0.6)]
    merged = row("ta", None, None, base, kind="merged", bits=32)
    summary = summarise(table(references(n, rng)[0], merged, *rows), ["a"])
    pairs = compare(summary, "gptq").set_index(["quantizer", "reference"])
    epmq = pairs.loc["epmq", "gptq"]
    d = better.astype(float) - base
    error = d.std(ddof=1) / np.sqrt(n)
    assert epmq["difference"] == pytest.approx(0.02)
    assert epmq["se_examples"] == pytest.approx(error, rel=1e-9)
    assert (epmq["ci_low"], epmq["ci_high"]) == pytest.approx((0.02 - 1.95996 * error, 0.02 + 1.95996 * error), abs=1e-6)
    assert epmq["detectable"] == pytest.approx(1.95996 * error, rel=1e-5)
    assert epmq["verdict"] == "better"
    assert pairs.loc["gptq", "full precision"]["verdict"] == "no clear difference"  # the same outcomes
    assert ("gptq", "gptq") not in pairs.index
    rtn, gptq = entry(summary, "rtn"), entry(summary, "gptq")
    apart = np.hypot(rtn["se_examples"], gptq["se_examples"])
    assert pairs.loc["rtn", "gptq"]["se_examples"] == pytest.approx(apart, rel=0.1)


def test_comparisons_stay_within_merge_bits_and_group(frame, tasks):
    merges = {"ta": 0.6, "ties": 0.65}
    records = frame(merges=merges, quantizers={"gptq": 0.0, "epmq": 0.05}, bits=(3, 4), groups=(None, 64), n=50)
    pairs = compare(summarise(records, tasks), "gptq")
    # 2 merges x 2 bits x 2 groups: each epmq against gptq and full precision, each gptq against full precision.
    assert len(pairs) == 8 * 3
    assert set(pairs[pairs["quantizer"] == "gptq"]["reference"]) == {"full precision"}
    with pytest.raises(DataError, match="gptq"):
        compare(summarise(records, tasks), "gptg")


def test_without_outcomes_the_standard_error_is_used():
    rng = np.random.default_rng(5)
    changes = {"correct": None, "metric": "spearman", "standard_error": 0.02}
    runs = [row("ta", "gptq", seed, rng.random(100) < 0.7, **changes) for seed in (0, 1)]
    expert, merged = references(100, rng)
    summary = summarise(table(expert | changes, merged | changes, *runs), ["a"])
    assert entry(summary, "gptq")["se_examples"] == pytest.approx(0.02, rel=0.06)


def test_single_seed_leaves_the_error_of_seeds_open():
    rng = np.random.default_rng(6)
    summary = summarise(table(*references(50, rng), row("ta", "gptq", 0, rng.random(50) < 0.5)), ["a"])
    assert np.isnan(entry(summary, "gptq")["se_seeds"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: pd.concat([r, r.tail(1)]), "two records"),
        (lambda r: r.assign(n=[50, 50, 49]), "numbers of examples"),
        (lambda r: r.assign(value=[1.0, 1.0, 0.123]), "mean of its outcomes"),
        (lambda r: r[r["kind"] != "expert"], "expert"),
    ],
)
def test_bad_records(spoil, message):
    rng = np.random.default_rng(7)
    good = table(*references(50, rng), row("ta", "gptq", None, rng.random(50) < 0.5))
    with pytest.raises(DataError, match=message):
        summarise(spoil(good), ["a"])


def test_missing_record(frame, tasks):
    records = frame(n=20)
    lost = (records["model"] == "ta-0.3/gptq-4-None/seed-2") & (records["task"] == "signs")
    with pytest.raises(DataError, match=r"ta-0.3, gptq, 4, seed 2: no record for signs"):
        summarise(records[~lost], tasks)


def test_replicates_repeat(frame, tasks):
    records = frame(n=50)
    first, second = summarise(records, tasks), summarise(records, tasks)
    assert first.replicates.shape == (len(first.entries), REPLICATES)
    assert (first.replicates == second.replicates).all()


KEYS = ["merge", "quantizer", "bits", "group_size"]


def without_outcomes(records, tasks):
    """The same with some tasks scored by a metric that has no per-example outcomes."""
    records = records.copy()
    records.loc[records["task"].isin(tasks), ["correct", "metric"]] = [None, "spearman"]
    return records


@pytest.mark.parametrize("scored", [[], ["signs"]], ids=["outcomes", "no outcomes in one task"])
def test_adding_models_moves_no_other_row(frame, tasks, scored):
    """To the last bit, whatever is added before, between and behind, and for intervals of differences too."""
    few = {"merges": {"ta-0.3": 0.62}, "quantizers": {"rtn": -0.04, "gptq": -0.01}, "bits": (4,)}
    many = {"merges": {"average": 0.5} | few["merges"] | {"ties": 0.7}, "bits": (4, 2), "groups": (None, 64)}
    many["quantizers"] = {"awq": 0.0, "rtn": -0.04, "qep": 0.01, "gptq": -0.01, "epmq": 0.03}
    small, large = (summarise(without_outcomes(frame(**options, n=60), scored), tasks) for options in (few, many))
    before, after = (summary.entries.fillna({"group_size": 0}).set_index(KEYS) for summary in (small, large))
    assert len(after) > 5 * len(before)
    pd.testing.assert_frame_equal(after.loc[before.index], before, check_exact=True, check_like=True)
    places = [after.index.get_loc(key) for key in before.index]
    for name in ("values", "low", "high", "replicates"):
        assert (getattr(large, name)[places] == getattr(small, name)).all(), name
    assert (large.covariance[np.ix_(places, places)] == small.covariance).all()
    of_many = ["entry", "other", "p_holm", "verdict"]
    first, second = (
        compare(summary, "gptq").drop(columns=of_many).fillna({"group_size": 0}).set_index([*KEYS, "reference"])
        for summary in (small, large)
    )
    pd.testing.assert_frame_equal(second.loc[first.index], first, check_exact=True, check_like=True)


def test_removing_a_task_moves_no_interval_of_another(frame, tasks):
    records = frame(n=60)
    all_tasks, fewer = summarise(records, tasks), summarise(records, tasks[:2])
    assert (all_tasks.low[:, :2] == fewer.low).all()
    assert (all_tasks.high[:, :2] == fewer.high).all()


def test_streams_are_named_by_what_they_draw():
    seeds = seed_weights("mini", (0, 1, 2))
    assert (seeds == seed_weights("mini", (2, 0, 1))[[1, 2, 0]]).all()
    assert (seeds != seed_weights("other", (0, 1, 2))).any()
    assert (seeds[:2] != seed_weights("mini", (0, 1))).any()
    assert (seeds.sum(axis=0) == 1).all()
    errors = draw_errors("mini", "stsb", ["quantized/a/seed-0", "quantized/a/seed-1"])
    assert (errors == draw_errors("mini", "stsb", ["quantized/a/seed-1", "quantized/a/seed-0"])).all()
    for other in (("mini", "stsb", ["merged/a"]), ("mini", "rte", ["quantized/a/seed-0", "quantized/a/seed-1"])):
        assert abs(np.corrcoef(errors, draw_errors(*other))[0, 1]) < 0.05


def test_a_bootstrap_agrees(frame, tasks):
    """The error from examples, by a plain paired bootstrap of them with the seeds held fixed, replicate by replicate."""
    records = frame(merges={"ta": 0.6}, quantizers={"gptq": 0.0, "epmq": 0.02}, bits=(4,), n=150)
    summary = summarise(records, tasks)
    pairs = compare(summary, "gptq")
    pair = pairs[(pairs["quantizer"] == "epmq") & (pairs["reference"] == "gptq")].iloc[0]
    outcomes = {
        (line.quantizer, line.task, line.seed): np.unpackbits(np.frombuffer(line.correct, np.uint8), count=150).astype(float)
        for line in records[records["kind"] == "quantized"].itertuples()
    }
    differences = np.array(
        [[outcomes["epmq", task, seed] - outcomes["gptq", task, seed] for task in tasks] for seed in range(3)]
    )
    rng, replicates = np.random.default_rng(10), []
    for _ in range(5_000):
        drawn = np.stack([differences[:, place, rng.integers(150, size=150)].mean(axis=1) for place in range(len(tasks))])
        replicates.append(drawn.mean())
    # 5,000 replicates give a standard error to 1 %.
    assert pair["se_examples"] == pytest.approx(np.std(replicates), rel=0.04)
