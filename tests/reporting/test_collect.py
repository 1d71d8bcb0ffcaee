import json

import numpy as np
import pandas as pd
import pytest

from pmqbench.errors import DataError
from pmqbench.files import write_json
from pmqbench.records import write_record
from pmqbench.reporting.collect import CURVE_DTYPES, DTYPES, collect, collect_curves, collect_layers, read_table, write_table


@pytest.fixture
def written(tmp_path, rows):
    """Rows for `collect` whose records lie in files."""
    pairs = rows(merges={"ta": 0.6}, quantizers={"rtn": 0.0, "gptq": 0.1}, bits=(4,), n=20)
    pairs[0][0].warnings.append("every answer is 3.")
    for record, row in pairs:
        row["path"] = tmp_path / row["path"]
        write_record(row["path"], record)
    return pairs


def test_columns_and_values_survive_the_file(tmp_path, written):
    write_table(tmp_path / "records.parquet", collect("mini", [row for _, row in written]))
    table = read_table(tmp_path / "records.parquet")
    assert list(table.columns) == list(DTYPES)
    assert len(table) == len(written)
    for (record, row), (_, got) in zip(written, table.iterrows(), strict=True):
        assert (got["kind"], got["task"], got["value"], got["n"]) == (record.kind, record.task, record.value, record.n)
        assert got["size_mb"] == record.size_bytes / 1e6
        assert got["calibration_seconds"] == record.costs.calibration_seconds
        assert got["calibration_samples"] == record.costs.calibration_samples
        assert got["chosen"] == row["chosen"]
        assert got["merge"] == row["merge"] or (pd.isna(got["merge"]) and row["merge"] is None)
        assert got["seed"] == record.seed or (pd.isna(got["seed"]) and record.seed is None)
        outcomes = np.unpackbits(np.frombuffer(got["correct"], np.uint8), count=record.n)
        assert (outcomes == record.outcomes()).all()
        assert json.loads(got["provenance"]) == record.provenance
        assert json.loads(got["warnings"]) == record.warnings


def test_names_that_do_not_fit_the_kind(written):
    _, row = next(pair for pair in written if pair[0].kind == "merged")
    with pytest.raises(DataError, match="merged"):
        collect("mini", [row | {"quantizer": "gptq"}])


@pytest.mark.parametrize(("merge", "chosen"), [("ta", "scaling"), ("ta-tuned", "")])
def test_a_choice_that_the_model_does_not_tell_of(tmp_path, rows, merge, chosen):
    record, row = next(pair for pair in rows(merges={merge: 0.6}) if pair[0].kind == "merged")
    row |= {"path": tmp_path / "record.json", "chosen": chosen}
    write_record(row["path"], record)
    with pytest.raises(DataError, match=r"validation labels were.* used, but chosen is"):
        collect("mini", [row])


def test_curves(tmp_path):
    points = [
        {"step": 0, "loss": None, "held_out": 0.5, "seconds": 0.0},
        {"step": 10, "loss": 0.3, "held_out": None, "seconds": 1.25},
    ]
    write_json(tmp_path / "curve.json", points)
    names = {"merge": "ta", "quantizer": "distilled", "bits": 4, "group_size": None, "chosen": "scaling"}
    write_table(tmp_path / "curves.parquet", collect_curves("mini", [{"path": tmp_path / "curve.json", "seed": 1, **names}]))
    table = read_table(tmp_path / "curves.parquet")
    assert list(table.columns) == list(CURVE_DTYPES)
    assert table[["merge", "bits", "seed"]].drop_duplicates().to_numpy().tolist() == [["ta", 4, 1]]
    assert table["held_out"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert table["loss"].tolist() == pytest.approx([np.nan, 0.3], nan_ok=True)
    assert (table["step"].tolist(), table["seconds"].tolist()) == ([0, 10], [0.0, 1.25])
    write_table(tmp_path / "none.parquet", collect_curves("mini", []))
    assert read_table(tmp_path / "none.parquet").empty


def test_layers(tmp_path):
    layer = {
        "layer": "a",
        "bits": 16,
        "shape": [2, 3],
        "quantization": {"relative": 0.5},
        "merging": {"digits": {"final": 2.0}},
    }
    write_json(tmp_path / "layers.json", [layer, layer])
    row = {"path": tmp_path / "layers.json", "merge": "ta", "quantizer": "gptq", "bits": 4, "group_size": None, "seed": 1}
    write_table(tmp_path / "layers.parquet", collect_layers("mini", [row, row]))
    table = read_table(tmp_path / "layers.parquet")
    assert len(table) == 4
    first = table.iloc[0]
    assert (first["suite"], first["merge"], first["bits"], first["seed"]) == ("mini", "ta", 4, 1)
    assert (first["quantization.relative"], first["merging.digits.final"], first["shape"]) == (0.5, 2.0, "[2, 3]")
