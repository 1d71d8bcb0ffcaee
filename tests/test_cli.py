"""The command `pmqbench`: a config that is checked, and what changed between two reports."""

import json
import re
import shutil
from pathlib import Path

import pytest

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


def test_a_folder_without_records_is_named(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path), str(tmp_path)])
    assert "results/suites/mini" in capsys.readouterr().err


@pytest.fixture(scope="module")
def records():
    """A suite of two tasks: base, expert, merge and two quantizers, gptq with two seeds."""
    import numpy as np
    import pandas as pd

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


def improved(records, quantizer):
    """The records with another quantizer's outcomes better by about ten points."""
    import numpy as np

    table = records.copy()
    for number in table.index[table["quantizer"] == quantizer]:
        bits = np.unpackbits(np.frombuffer(table["correct"][number], np.uint8), count=400)
        bits[np.flatnonzero(bits == 0)[:40]] = 1
        table.at[number, "correct"] = np.packbits(bits).tobytes()
        table.at[number, "value"] = bits.mean()
    return table


def test_what_changed_is_a_paired_difference(records, tmp_path, capsys):
    after = improved(records, "gptq")
    for name, table in (("a", records), ("b", after)):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "records.parquet", table)
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (shown,) = [words for words in lines if "gptq" in words]
    assert shown[-1] == "better"
    assert shown[6] == "10.00"
    assert ["4", "models", "are"] in [words[:3] for words in lines]
    table = changes(records, after).set_index("quantizer")
    assert table.loc["gptq", "difference"] == pytest.approx(0.1)
    # Of each run 40 of 400 answers turned right and none wrong: the paired error is that of a share of a tenth.
    error = (0.1 * 0.9 / 400 / 2) ** 0.5
    width = table.loc["gptq", "ci_high"] - table.loc["gptq", "ci_low"]
    assert width == pytest.approx(2 * 1.96 * error, rel=0.35)
    assert (table.drop("gptq")[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)


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
