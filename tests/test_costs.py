"""What a model cost to make, along the way from the experts to a refined model."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pmqbench.costs import Costs
from pmqbench.errors import DataError
from pmqbench.files import read_json
from pmqbench.integrity import read_sealed, write_sealed
from pmqbench.jobs import Made, write_manifest
from pmqbench.records import Record, read_record, write_record

RECORD = Record("merged/x", "merged", "digits", None, "accuracy", 0.5, 2, 0.1, None, None, 1, 0.1, 1.0, {})


def test_costs_of_a_chain_by_hand():
    """A merge with a chosen scaling, a quantizer with 48 samples and a chosen option, distillation with 256 samples."""
    merge = Costs(1.5) + Costs(20.25, 0, True)
    quantized = merge + Costs(30.0, 48, True) + Costs(2.0, 48)
    assert quantized + Costs(22.0, 256) == Costs(75.75, 256, True)
    assert Costs(1.5) + Costs(2.0, 48) == Costs(3.5, 48, False)
    assert sum([Costs(1.0, 64), Costs(0.5, 8)], Costs()) == Costs(1.5, 64)


def test_costs_survive_their_manifest():
    costs = Costs(3.5, 48, True)
    assert Costs.from_manifest({"seconds": 2.0, **costs.stated()}) == costs
    assert costs.stated() == {"costs": {"calibration_seconds": 3.5, "calibration_samples": 48, "validation_labels": True}}
    assert Costs.from_manifest({"seconds": 100.0, "recipe": {}}) == Costs()  # an expert's


def test_a_manifest_adds_the_seconds_of_its_own_step(tmp_path):
    job = SimpleNamespace(params=SimpleNamespace(code="c"), threads=1)
    started = time.perf_counter() - 5
    write_manifest(job, tmp_path, Made({}, {}, started, costs=Costs(10.0) + Costs(0, 48)))
    manifest = read_json(tmp_path / "manifest.json")
    costs = Costs.from_manifest(manifest)
    assert costs.calibration_seconds == pytest.approx(10 + manifest["seconds"], abs=1e-9)
    assert 5 <= manifest["seconds"] < 60
    assert (costs.calibration_samples, costs.validation_labels) == (48, False)
    write_manifest(job, tmp_path, Made({}, {}, started))
    assert "costs" not in read_json(tmp_path / "manifest.json")


def test_a_record_keeps_them(tmp_path):
    record = replace(RECORD, costs=Costs(3.5, 48, True))
    write_record(tmp_path / "r.json", record)
    assert read_record(tmp_path / "r.json") == record
    assert RECORD.costs == Costs()
    older = read_sealed(tmp_path / "r.json")
    del older["costs"]
    write_sealed(tmp_path / "r.json", older)
    with pytest.raises(DataError, match=r"r\.json.*not a result record of this version.*costs"):
        read_record(tmp_path / "r.json")
