"""Checksums: what was changed after it was written is refused by name, before any work, with the way out."""

import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pmqbench.errors import DataError
from pmqbench.integrity import (
    checksum,
    read_manifest,
    read_sealed,
    save_sealed_tensors,
    verify,
    write_manifest,
    write_sealed,
)
from pmqbench.reporting.collect import read_table, refuse_outdated, write_table
from pmqbench.tasks.splits import drawn_images, save_split
from tests.job_runs import fail_as_job
from tests.test_costs import RECORD


@pytest.fixture
def artefact(tmp_path):
    """A model's folder: weights, a link to a file of the user's, and the manifest of both."""
    folder, own = tmp_path / "merged" / "ta-1", tmp_path / "own.json"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(200)))
    own.write_text("{}")
    (folder / "config.json").symlink_to(own)
    write_manifest(folder, {"recipe": {"scaling": 1.0, 2: (3,)}})
    return folder


def flip(path: Path, place: int = -7) -> None:
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_manifest_states_what_lies_beside_it(artefact):
    assert set(read_manifest(artefact)["files"]) == {"model.safetensors", "config.json"}
    verify(artefact.iterdir())


@pytest.mark.parametrize("spoil", [flip, lambda path: os.truncate(path, 100), Path.unlink])
def test_damaged_weights_are_refused_by_name(artefact, spoil):
    spoil(artefact / "model.safetensors")
    with pytest.raises(DataError, match=rf"ta-1/model\.safetensors: .*\(\d{{4}}-.*Delete the folder {artefact}, or .*doctor"):
        verify([artefact / "model.safetensors", artefact / "manifest.json"])


def test_a_users_file_that_changed_is_told_apart(artefact):
    (artefact / "config.json").write_text('{"width": 2}')
    with pytest.raises(DataError, match=r"own\.json, which it links to, has changed since it was taken in") as caught:
        verify([artefact / "config.json"])
    assert "as it is now" in str(caught.value)


def test_every_flipped_bit_of_sealed_json_is_found(tmp_path):
    path = tmp_path / "record.json"
    value = {"value": 0.1 + 0.2, "costs": {"10": 1, "9": [True, None, "é"]}}
    write_sealed(path, value)
    assert read_sealed(path) == value
    whole, unseen = path.read_bytes(), 0
    for place in range(len(whole)):
        flip(path, place)
        with suppress(DataError):
            unseen += read_sealed(path) != value
        path.write_bytes(whole)
    assert unseen == 0


def test_json_without_a_seal_is_of_another_version(tmp_path):
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    with pytest.raises(DataError, match=r"states no checksum.*Delete the folder"):
        read_manifest(tmp_path)


def test_a_damaged_head_is_refused(tmp_path):
    path = tmp_path / "digits.safetensors"
    save_sealed_tensors(path, {"classes": torch.randn(3, 4), "scale": torch.tensor(2.0)})
    verify([path])
    for place in (-1, 12):
        flip(path, place)
        with pytest.raises(DataError, match=r"digits\.safetensors"):
            verify([path])
        flip(path, place)


def test_only_drawn_images_are_checked_when_some_are_drawn(tmp_path):
    path = tmp_path / "train.safetensors"
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), np.uint8)
    save_split(path, images, np.arange(6), 6, "here")
    first, *_ = chosen = [
        int(np.flatnonzero((images == image.numpy()).all((1, 2, 3)))[0]) for image in drawn_images(path, "t", 3, 0)
    ]
    other = next(iter({*range(6)} - {*chosen}))
    start = path.read_bytes().index(images.tobytes())
    flip(path, start + 48 * other)
    drawn_images(path, "t", 3, 0)
    flip(path, start + 48 * first + 5)
    with pytest.raises(DataError, match=r"train\.safetensors"):
        drawn_images(path, "t", 3, 0)


def test_a_job_refuses_damaged_inputs_before_it_works(artefact, tmp_path):
    flip(artefact / "model.safetensors")
    log, worked = tmp_path / "job.log", []
    given = [str(artefact / "model.safetensors"), str(artefact / "manifest.json")]
    ended = fail_as_job(worked.append, log, "quantize_model", input=given)
    assert re.match(r"error in quantize_model: .*not what was written", str(ended))
    assert not worked
    assert "ERROR" in log.read_text()


def test_a_flipped_bit_anywhere_in_a_table_is_found(tmp_path):
    """In the part that says what the columns are, too, which Parquet's own checksums leave out."""
    path = tmp_path / "records.parquet"
    table = pd.DataFrame({"value": np.random.default_rng(0).random(50), "name": ["a", None] * 25, "n": range(50)})
    write_table(path, table)
    assert read_table(path).equals(table)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole)
        flip(path, place)
        with pytest.raises(DataError, match=r"records\.parquet: its content is not what was written"):
            read_table(path)


def test_a_record_of_other_weights_is_not_collected(artefact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    artefact.parent.parent.joinpath("results").mkdir()
    artefact.parent.rename("results/merged")
    weights = read_manifest("results/merged/ta-1")["files"]["model.safetensors"]
    record = replace(RECORD, model="merged/ta-1", provenance={"weights": weights})
    refuse_outdated([record], ["r.json"])
    with pytest.raises(DataError, match=r"r\.json: it tells of other weights than results/merged/ta-1 has by now"):
        refuse_outdated([replace(record, provenance={"weights": "0"})], ["r.json"])


def test_a_checksum_is_that_of_now_even_where_size_and_times_are_those_of_before(artefact):
    path = artefact / "model.safetensors"
    for place in range(20):
        before, times = checksum(path), path.stat()
        flip(path, place)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert checksum(path) != before
