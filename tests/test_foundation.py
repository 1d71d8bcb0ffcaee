"""Files, names, registries, code hashes, records: what everything else stands on."""

import os
from dataclasses import replace

import numpy as np
import pytest

from pmqbench.errors import ConfigError, DataError, did_you_mean
from pmqbench.files import atomic_path, check_name, hash8, read_json, write_json
from pmqbench.integrity import write_sealed
from pmqbench.options import build_options
from pmqbench.provenance import provenance
from pmqbench.records import Record, pack_outcomes, read_record, write_record
from pmqbench.tasks.sources.base import DATA_SOURCES


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "value.json"
    write_json(target, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(target, {"b": object()})
    with pytest.raises(TypeError, match="bytes-like"), atomic_path(target) as temporary:
        temporary.write_bytes("text")
    assert read_json(target) == {"a": 1}
    assert os.listdir(tmp_path) == ["value.json"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "ä"])
def test_unsafe_names_never_become_paths(name):
    with pytest.raises(ConfigError, match="cannot be part of a path"):
        check_name(name, "tasks.0")


def test_hash_ignores_key_order_only():
    assert hash8({"a": 1, "b": 2}) == hash8({"b": 2, "a": 1})
    assert hash8({"a": 1}) != hash8({"a": 2})


def test_did_you_mean():
    assert did_you_mean("tase_arithmetic", ["task_arithmetic", "ties"]) == 'Did you mean "task_arithmetic"?'
    assert did_you_mean("zzz", ["b", "a"]) == "Known: a, b."


def test_registry_suggests_and_checks_options():
    with pytest.raises(ConfigError, match=r'unknown data source "minni".*Did you mean "mini"'):
        DATA_SOURCES.get("minni")
    with pytest.raises(ConfigError, match=r'task x: source.*unknown key "sead".*Did you mean "seed"'):
        build_options(DATA_SOURCES, "mini", {"sead": 1}, "task x: source")
    with pytest.raises(ConfigError, match=r"task x: source\.seed: must be at least 0, not -1.*Seed of the generator"):
        build_options(DATA_SOURCES, "mini", {"seed": -1}, "task x: source")


def record():
    correct = np.array([True, False, True, True, False, True, True, True, False])
    return Record(
        model="base/x",
        kind="base",
        task="digits",
        seed=None,
        metric="accuracy",
        value=6 / 9,
        n=9,
        standard_error=0.1,
        loss=1.5,
        correct=pack_outcomes(correct),
        size_bytes=10,
        seconds=0.1,
        peak_memory_mb=1.0,
        provenance=provenance({"a": 1}, {"base": "00"}, "code", "cpu", 1),
    )


def test_records_round_trip_with_their_outcomes(tmp_path):
    write_record(tmp_path / "r.json", record())
    again = read_record(tmp_path / "r.json")
    assert again == record()
    assert again.outcomes().tolist() == [1, 0, 1, 1, 0, 1, 1, 1, 0]
    assert again.provenance["versions"]["torch"]
    with pytest.raises(DataError, match="no per-example outcomes"):
        replace(again, correct=None).outcomes()


def test_foreign_records_are_refused(tmp_path):
    write_sealed(tmp_path / "r.json", {"model": "x", "accuracy": 1})
    with pytest.raises(DataError, match=r"r\.json.*not a result record.*accuracy"):
        read_record(tmp_path / "r.json")
