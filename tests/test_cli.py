"""The command `pmqbench`: a config that is checked, and what changed between two reports."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pmqbench.cli import main
from pmqbench.reporting.changes import changes
from pmqbench.reporting.collect import write_table

ROOT = Path(__file__).parents[1]


def test_a_config_is_checked(capsys, tmp_path):
    mini = ROOT / "config/mini.yaml"
    main(["check", str(mini)])
    assert capsys.readouterr().out == f"{mini}: can be used\n"
    broken = tmp_path / "mine.yaml"
    shutil.copy(mini, broken)
    broken.write_text(broken.read_text().replace("seeds:", "seedz:", 1))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(broken)])
    assert ended.value.code == 2
    assert re.search(r'mine\.yaml, line \d+: .*unknown key "seedz"', capsys.readouterr().err)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "no records.parquet here. Name the folder of a report: results/suites/mini"),
        (lambda path: path.write_text("cut off"), "records.parquet: its content is not what was written"),
        (lambda path: write_table(path, pd.DataFrame({"training_seed": [0]})), "records.parquet: its columns are not suite,"),
    ],
)
def test_a_folder_without_records_of_a_leaderboard_is_named(capsys, tmp_path, write, said):
    write(tmp_path / "records.parquet")
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path), str(tmp_path)])
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def records():
    """A suite of two tasks: base, expert, merge and two quantizers, gptq with two seeds."""
    from pmqbench.records import pack_outcomes
    from pmqbench.reporting.collect import DTYPES

    rows = []
    for task in ("digits", "signs"):
        difficulty = np.random.default_rng(len(task)).random(400)
        models = [("base", None, None, None, 0.5), ("expert", None, None, None, 0.9), ("merged", "ta", None, None, 0.7)]
        models += [("quantized", "ta", "rtn", None, 0.6), *(("quantized", "ta", "gptq", seed, 0.65) for seed in (0, 1))]
        for kind, merge, quantizer, seed, share in models:
            rng = np.random.default_rng(len(rows))
            correct = difficulty + 0.1 * rng.standard_normal(400) < share
            value = float(correct.mean())
            made = json.dumps({"inputs": {"data": f"{task}-1"}})
            names = {"suite": "mini", "kind": kind, "model": f"{kind}-{merge}-{quantizer}-{seed}", "merge": merge}
            names |= {"quantizer": quantizer, "bits": 4 if quantizer else 32, "group_size": None, "seed": seed, "task": task}
            error = (value * (1 - value) / 400) ** 0.5
            told = {"metric": "accuracy", "value": value, "n": 400, "standard_error": error, "loss": 1.0}
            told |= {"correct": pack_outcomes(correct), "seconds": 1.0, "peak_memory_mb": 1.0, "size_mb": 1.0}
            told |= {"calibration_seconds": 1.0, "calibration_samples": 0, "chosen": "", "provenance": made, "warnings": "[]"}
            rows.append(names | told)
    from base64 import b64decode

    table = pd.DataFrame(rows)
    table["correct"] = [b64decode(one) if isinstance(one, str) else one for one in table["correct"]]
    return table[list(DTYPES)].astype(DTYPES)


def improved(records, quantizer, answers=40):
    """The records with so many more of a quantizer's answers right, on each task and with each seed."""
    table = records.copy()
    for number in table.index[table["quantizer"] == quantizer]:
        bits = np.unpackbits(np.frombuffer(table["correct"][number], np.uint8), count=400)
        bits[np.flatnonzero(bits == 0)[:answers]] = 1
        table.at[number, "correct"] = np.packbits(bits).tobytes()
        table.at[number, "value"] = bits.mean()
    return table


def test_what_changed_is_a_paired_difference(records, tmp_path, capsys):
    after = improved(records, "gptq")
    for name, table in (("a", records), ("b", after)):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "records.parquet", table)
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    out = capsys.readouterr().out
    (shown,) = [line.split() for line in out.splitlines() if "gptq" in line]
    assert (shown[-1], shown[5]) == ("better", "10.00")
    assert "In both: 1 better, 0 worse, 0 no clear difference, 4 the same." in out
    table = changes(records, after).set_index("quantizer")
    gptq = table.loc["gptq"]
    # Of each run 40 of 400 answers turned right and none wrong; both seeds gain the same, so that examples are all the error.
    outcomes = {name: np.stack([unpacked(one, name) for one in (records, after)]) for name in ("digits", "signs")}
    gains = {name: (new - old).mean(axis=0) for name, (old, new) in outcomes.items()}
    error = sum(gain.var(ddof=1) / 400 for gain in gains.values()) ** 0.5 / 2
    assert gptq["difference"] == pytest.approx(0.1)
    assert gptq["ci_high"] - gptq["ci_low"] == pytest.approx(2 * stats.norm.ppf(0.975) * error)
    assert gptq["p"] == gptq["p_holm"] == pytest.approx(2 * stats.norm.sf(0.1 / error))
    assert (table.drop("gptq")[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)


def unpacked(records, task):
    """(seeds, n) outcomes of gptq on a task."""
    packed = records.loc[(records["quantizer"] == "gptq") & (records["task"] == task), "correct"]
    return np.stack([np.unpackbits(np.frombuffer(bits, np.uint8), count=400).astype(float) for bits in packed])


def test_many_changes_are_corrected_for(records):
    """A difference that is clear by itself is not, as the largest of two: Holm's correction is over those that differ."""
    both = improved(improved(records, "gptq", 4), "rtn", 3)
    alone = changes(records, improved(records, "gptq", 4)).set_index("quantizer").loc["gptq"]
    table = changes(records, both).set_index("quantizer")
    assert alone["p_holm"] == alone["p"] == table.loc["gptq", "p"]
    p = table.loc[["gptq", "rtn"], "p"]
    assert table.loc[["gptq", "rtn"], "p_holm"].max() == pytest.approx(max(p.max(), 2 * p.min()))
    assert table.loc[["gptq", "rtn"], "p_holm"].min() == pytest.approx(2 * p.min())


def test_new_and_gone_models_are_told(records):
    table = changes(records[records["quantizer"] != "rtn"], records[records["quantizer"] != "gptq"]).set_index("quantizer")
    assert table.loc["rtn", ["before", "difference"]].isna().all()
    assert table.loc["gptq", ["after", "difference"]].isna().all()


def test_other_data_are_refused(records, tmp_path, capsys):
    other = records.assign(provenance=[made.replace("signs-1", "signs-2") for made in records["provenance"]])
    for name, table in (("a", records), ("b", other)):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "records.parquet", table)
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert "the data differ: signs" in capsys.readouterr().err
