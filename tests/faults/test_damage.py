"""An artefact that was truncated or changed afterwards is found by whoever reads it next; no leaderboard is made of it."""

import os
import shutil
from contextlib import contextmanager

import pytest

from tests.faults.conftest import copy_of
from tests.faults.suite import CONFIG, TARGETS, same, until

EPMQ = "quantized/*/epmq-*/seed-0"
DISTILLED = "quantized/*/*/distill-*/seed-0"
ARTEFACTS = {  # from the last to the first, so that a run in between makes nothing but what was damaged before
    "table of records": ("suites/small/records.parquet", "rank_models"),
    "record": ("evaluations/quantized/*/rtn-*/digits-*.json", "collect_records"),
    "training curve": (f"{DISTILLED}/curve.json", "collect_records"),
    "layers' errors": (f"{EPMQ}/layers.json", "collect_records"),
    "packed codes": (f"{EPMQ}/packed.safetensors", "export_model"),
    "quantized weights": (f"{EPMQ}/open_clip_model.safetensors", "evaluate_model"),
    "manifest of a quantized model": (f"{EPMQ}/manifest.json", "evaluate_model"),
    "choice of a quantizer's options": ("quantized/*/*/tuning.json", "calibrate_seeds"),
    "merged weights": ("merged/task*/open_clip_model.safetensors", "quantize_model"),
    "choice of a scaling": ("merged/*/tuning.json", "merge_experts"),
    "head": ("heads/*/digits-*.safetensors", "evaluate_expert"),
    "manifest of the base": ("experts/local-base-*/manifest.json", "build_heads"),
    "data": ("data/digits-*/test.safetensors", "evaluate_expert"),
}


@pytest.fixture(scope="module")
def whole(undisturbed, tmp_path_factory):
    return copy_of(undisturbed, tmp_path_factory.mktemp("whole"))


@contextmanager
def damaged(path, how):
    """The file with a flipped bit or without its second half; as it was, afterwards."""
    kept = path.with_name(f"{path.name}.whole")
    shutil.copy2(path, kept)
    content = bytearray(path.read_bytes())
    content[3 * len(content) // 4] ^= 1
    path.write_bytes(content if how == "flipped" else content[: len(content) // 2])
    try:
        yield
    finally:
        os.replace(kept, path)


@pytest.mark.faults
@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_damaged(artefact, whole, record_property):
    how = ("flipped", "truncated")[list(ARTEFACTS).index(artefact) % 2]
    place, reader = ARTEFACTS[artefact]
    path = sorted(whole.results.glob(place))[0]
    with damaged(path, how):
        output = whole.snakemake(*until(reader), code=1)
    assert path.name in output
    assert path.parent.name in output
    record_property("outcome", f"{how}: refused by {reader}")


@pytest.mark.faults
def test_damaged_files_put_back(whole, reference, record_property):
    whole.snakemake(*CONFIG, "--", *TARGETS)
    same(whole, reference)
    record_property("outcome", "equal")


@pytest.mark.faults
def test_damage_that_nothing_shows_and_its_way_out(finished, reference, record_property):
    """The file's time is as it was: no job runs. What was made of it is whole; it is made again for whoever needs it."""
    weights = next(finished.results.glob(f"{EPMQ}/open_clip_model.safetensors"))
    times = weights.stat()
    content = bytearray(weights.read_bytes())
    content[-8] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "Nothing to be done" in finished.snakemake(*CONFIG, "--", *TARGETS)
    assert weights.parent.name in finished.doctor(code=1)
    finished.doctor("--remove", code=None)
    assert not weights.exists()
    assert "Nothing to be done" in finished.snakemake(*CONFIG, "--", *TARGETS)
    finished.snakemake(*CONFIG, "--", *TARGETS, str(weights.relative_to(finished.work)))
    same(finished, reference)
    record_property("outcome", "found and removed by doctor, made again, equal")
