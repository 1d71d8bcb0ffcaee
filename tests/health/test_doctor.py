"""`pmqbench doctor` on a results folder that was damaged in every way: what it says, what it deletes, what it leaves alone."""

import json
import os
import re
import subprocess
import sys
from base64 import urlsafe_b64encode
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pmqbench.cli import main
from pmqbench.health.leftovers import temporaries, writers
from pmqbench.health.runs import incomplete, snakemakes
from pmqbench.integrity import checksum, save_sealed_tensors, write_manifest, write_sealed
from pmqbench.records import read_record, write_record
from tests.test_costs import RECORD


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A healthy results folder in the working folder: a linked expert, two merges, their records, a head, a choice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pmqbench.health.space.disk", lambda _: ("/", 100.0, 200.0))  # whatever this machine has left
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"expert")
    for folder in ("experts/e-1", "merged/ta-1", "merged/ta-2", "quantized/ta-1/gptq-1/seed-0"):
        made = Path("results", folder)
        made.mkdir(parents=True)
        if folder.startswith("experts"):
            (made / "model.safetensors").symlink_to(own)
        else:
            (made / "model.safetensors").write_bytes(folder.encode() * 9)
        if folder == "merged/ta-1":
            write_sealed(made / "tuning.json", {"chosen": {}})
        write_manifest(made, {"code": "0"})
        weights = checksum(made / "model.safetensors")
        record = replace(RECORD, model=folder, provenance={**RECORD.provenance, "weights": weights})
        write_record(Path("results/evaluations", folder, "digits-1.json"), record)
    save_sealed_tensors(Path("results/heads/b/digits-1.safetensors"), {"classes": torch.eye(2)})
    return tmp_path


@pytest.fixture
def doctor(work, capsys):
    """`doctor(arguments)` -> exit status and what is printed."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", *arguments])
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    return run


def kept():
    return sorted(str(path) for path in Path("results").rglob("*") if not path.is_dir())


def test_nothing_is_wrong_with_healthy_results(doctor):
    before = kept()
    status, said = doctor("--remove")
    assert status == 0
    assert "Nothing is wrong." in said
    assert kept() == before


def test_a_disk_that_is_all_but_full_is_told_of(doctor, monkeypatch):
    monkeypatch.setattr("pmqbench.health.space.disk", lambda _: ("/results-disk", 0.1, 200.0))
    status, said = doctor()
    assert status == 1
    assert "/results-disk has 0.1 of 200.0 GB left" in said
    assert "Free some" in said


def test_damaged_artefacts_and_records_are_found_and_deleted_and_nothing_else(doctor):
    before = kept()
    weights, record = Path("results/merged/ta-1/model.safetensors"), Path("results/evaluations/merged/ta-2/digits-1.json")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    record.write_text(record.read_text().replace('"n": ', '"n": 1'))
    assert doctor("--quick")[1].count("not what was written") == 1  # weights are not read
    status, said = doctor()
    assert status == 1
    assert f"{weights}: its content is not what was written" in said
    assert f"{record}: its content is not what was written" in said
    assert kept() == before
    assert doctor("--remove")[0] == 0
    assert {*before} - {*kept()} == {str(weights), "results/merged/ta-1/manifest.json", str(record)}
    assert Path("results/merged/ta-1/tuning.json").is_file()
    assert doctor()[0] == 0


def test_a_users_file_that_went_is_a_broken_link_and_only_the_link_is_deleted(doctor, work):
    (work / "own.safetensors").rename(work / "elsewhere.safetensors")
    said = doctor("--remove")[1]
    assert "broken links" in said
    assert "which it links to, is gone since it was taken in" in said
    assert not Path("results/experts/e-1").exists()
    assert (work / "elsewhere.safetensors").read_bytes() == b"expert"


def test_a_record_of_other_weights_than_the_model_has_is_outdated(doctor):
    record = Path("results/evaluations/merged/ta-1/digits-1.json")
    made = read_record(record)
    write_record(record, replace(made, provenance={**made.provenance, "weights": "0" * 64}))
    said = doctor("--remove")[1]
    assert f"{record}: results/merged/ta-1 has other weights by now" in said
    assert not record.exists()


def test_results_of_an_older_version_are_told_as_such_in_a_line_each(doctor):
    for path in Path("results").rglob("*.json"):
        told = json.loads(path.read_text())
        told.pop("sha256")
        path.write_text(json.dumps(told))
    status, said = doctor()
    assert status == 1
    assert "damaged" not in said
    assert len(re.findall(r"^  \d+ (?:artefacts and tables|records) without checksums", said, re.MULTILINE)) == 2


def test_a_folder_without_a_manifest_is_told_and_left_alone(doctor):
    """It may be of a job that was killed, or somebody's own."""
    Path("results/merged/ta-2/manifest.json").unlink()
    before = kept()
    status, said = doctor("--remove")
    assert status == 0
    assert "results/merged/ta-2: it has no manifest" in said
    assert kept() == before


def test_what_the_system_does_not_read_is_told_and_left_alone(doctor, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pmqbench.health.damage.verify_tensors", refuse)
    status, said = doctor("--remove")
    assert status == 1
    assert "results/heads/b/digits-1.safetensors: Permission denied" in said
    assert Path("results/heads/b/digits-1.safetensors").is_file()


def test_a_lock_that_nobody_holds_is_told_with_the_way_out_and_keeps_files_from_being_deleted(doctor, work):
    locks = work / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").touch()
    Path("results/merged/ta-1/.model.0123abcd.safetensors").touch()
    Path("results/merged/ta-1/.artifact.uploading.szxxyh2k").touch()
    status, said = doctor("--remove")
    assert status == 2
    assert "orphaned (2)" in said
    assert "no Snakemake of this machine works here" in said
    assert "make unlock" in said
    assert "so nothing was removed" in said
    (locks / "0.output.lock").unlink()
    assert doctor("--remove")[0] == 0
    assert temporaries(Path("results")) == []


def test_jobs_that_never_ended_are_named_whatever_the_length_of_their_paths(doctor, work):
    marks = work / ".snakemake/incomplete"
    long = urlsafe_b64encode(b"results/" + b"x" * 300).decode()
    (marks / f"@{long[:254]}").mkdir(parents=True)
    (marks / f"@{long[:254]}" / long[254:]).write_text("{}")
    (marks / urlsafe_b64encode(b"results/merged/ta-3/model.safetensors").decode()).write_text("{}")
    assert incomplete(work / "results") == ["results/merged/ta-3/model.safetensors", "results/" + "x" * 300]
    status, said = doctor()
    assert status == 1
    assert "--rerun-incomplete" in said


def test_a_temporary_file_that_a_process_writes_is_left_to_it(doctor):
    path = Path("results/merged/ta-1/.model.0123abcd.safetensors")
    with open(path, "w") as file:
        file.write("half")
        assert writers([path]) == {path: os.getpid()}
        status, said = doctor("--remove")
        assert status == 0
        assert "writes it" in said
        assert path.exists()
    doctor("--remove")
    assert not path.exists()


def test_a_snakemake_at_work_is_known_by_its_folder(work):
    command = "import time; print('up', flush=True); time.sleep(60)"
    (work / "snakemake").write_text(command)
    with subprocess.Popen([sys.executable, "snakemake"], cwd=work, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert snakemakes(work / "results") == [process.pid]
        assert snakemakes(work.parent / "results") == []
        process.kill()
    assert snakemakes(work / "results") == []


def test_a_lock_is_seen_where_results_is_a_link_to_another_folder(doctor, work, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("scratch") / "results"
    Path("results").rename(elsewhere)
    Path("results").symlink_to(elsewhere)
    assert doctor()[0] == 0
    (work / ".snakemake/locks").mkdir(parents=True)
    (work / ".snakemake/locks/0.output.lock").touch()
    Path("results/merged/ta-1/model.safetensors").write_bytes(b"damaged")
    assert doctor("--remove")[0] == 2
    assert Path("results/merged/ta-1/model.safetensors").exists()


def test_a_folder_that_is_none_is_answered(doctor):
    status, said = doctor("nowhere")
    assert status == 2
    assert "nowhere: there is no such folder." in said
