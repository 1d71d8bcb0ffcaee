"""Downloads against the stand-in: only what is wanted, resumed, verified; and what a user reads when something is wrong."""

import logging
import shutil
from collections import namedtuple

import pytest
from huggingface_hub import constants

from pmqbench import hub as library
from pmqbench.errors import DataError, HubError
from pmqbench.hub import Repo, fetch
from tests.hub.conftest import use
from tests.hub.server import Fault

WANTED = ["model.safetensors", "config.json"]


def wanted(names, get):
    return WANTED


def contents(snapshot):
    return {name: path.read_bytes() for name, path in snapshot.files.items()}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(library, "WAITS", (0, 0, 0))


def nothing_half_written(tmp_path, hub):
    """Whether every file in the cache's store is whole, so that no later run takes a part for it."""
    stored = [path.read_bytes() for path in (tmp_path / "hf").rglob("blobs/*")]
    return all(data in hub.repositories["models", "owner/name"].files.values() for data in stored)


def test_only_wanted_files_are_fetched_and_a_pinned_commit_needs_no_second_request(repo, here):
    first = fetch(repo, wanted)
    assert contents(first) == {name: here.repositories["models", "owner/name"].files[name] for name in WANTED}
    assert first.commit == here.repositories["models", "owner/name"].commit
    assert not here.fetched("big.bin")
    pinned = Repo(repo.id, revision=first.commit)
    here.requests.clear()
    assert contents(fetch(pinned, wanted)) == contents(first)
    assert here.requests == []


def test_the_commit_of_an_unpinned_id_is_logged(repo, here, caplog):
    caplog.set_level(logging.INFO)
    snapshot = fetch(repo, wanted)
    assert f"is not pinned; it is commit {snapshot.commit} now. Give `revision: {snapshot.commit}`" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        fetch(Repo(repo.id, revision=snapshot.commit), wanted)
    assert "pinned" not in caplog.text


def test_a_cut_connection_resumes_where_it_broke(repo, here, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # 10 MB by default: less than that starts again
    here.faults.append(Fault("model.safetensors", cut=True))
    assert contents(fetch(repo, wanted))["model.safetensors"] == bytes(range(256)) * 4000
    ranges = [asked for method, path, asked in here.requests if method == "GET" and path.endswith("model.safetensors")]
    assert ranges == ["", "bytes=500000-"]


def test_a_wrong_checksum_is_an_error_and_the_file_is_not_used_later(repo, here, tmp_path):
    here.faults.append(Fault("model.safetensors", flip=True))
    with pytest.raises(DataError, match=r"model owner/name: model\.safetensors has checksum .* the hub says .* run again"):
        fetch(repo, wanted)
    assert nothing_half_written(tmp_path, here)
    assert contents(fetch(repo, wanted))["model.safetensors"] == bytes(range(256)) * 4000


def test_a_damaged_file_of_the_cache_is_found(repo):
    snapshot = fetch(repo, wanted)
    blob = snapshot.files["model.safetensors"].resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="checksum"):
        fetch(repo, wanted)
    assert contents(fetch(repo, wanted)) == contents(snapshot) | {"model.safetensors": bytes(range(256)) * 4000}


def test_a_busy_hub_is_asked_again(repo, here):
    here.faults.append(Fault("/api/models/owner/name$", status=429, headers={"Retry-After": "0"}))
    here.faults.append(Fault("/api/models/owner/name", status=503))
    assert set(fetch(repo, wanted).files) == set(WANTED)


def test_a_busy_file_server_is_asked_again(repo, here):
    here.faults.append(Fault("resolve.*model.safetensors", status=429, headers={"Retry-After": "0"}))
    assert set(fetch(repo, wanted).files) == set(WANTED)


def test_a_slow_server_is_waited_for(repo, here):
    here.faults.append(Fault("model.safetensors", delay=1.5))
    assert set(fetch(repo, wanted).files) == set(WANTED)


@pytest.mark.parametrize(
    ("asked", "fault", "words"),
    [
        (Repo("owner/nothing"), None, ["model owner/nothing: ", "no such repository", "hf auth login"]),
        (Repo("owner/name", kind="dataset"), None, ["dataset owner/name: ", "no such repository"]),
        (Repo("owner/name", revision="v2"), None, ["model owner/name at v2: ", "no such revision", "/owner/name/commits/main"]),
        (Repo("owner/name", revision="0" * 40), None, ["at 0000", "no such revision"]),
        (
            Repo("owner/name"),
            Fault("resolve", status=403, times=9, headers={"X-Error-Code": "GatedRepo"}),
            ["accepted its terms", "/owner/name, then", "HF_TOKEN"],
        ),
        (
            Repo("owner/name"),
            Fault("resolve.*config.json", status=404, times=9, headers={"X-Error-Code": "EntryNotFound"}),
            ["model owner/name: ", "a file is not there"],
        ),
        (Repo("owner/name"), Fault("/api/", status=500, times=9), ["status 500", "later"]),
    ],
)
def test_what_the_hub_refuses(repo, here, tmp_path, asked, fault, words):
    here.faults += [fault] if fault else []
    with pytest.raises(HubError) as caught:
        fetch(asked, wanted)
    assert [word for word in words if word not in str(caught.value)] == []
    assert len(str(caught.value)) < 300
    assert nothing_half_written(tmp_path, here)


def test_without_a_network_the_cache_serves_and_else_the_message_says_so(repo, here, tmp_path, monkeypatch):
    snapshot = fetch(repo, wanted)
    use(here, tmp_path, monkeypatch, ENDPOINT="http://127.0.0.1:9")
    assert contents(fetch(repo, wanted)) == contents(snapshot)
    with pytest.raises(HubError, match=r"model owner/other: the hub at http://127\.0\.0\.1:9 cannot be reached.*source: local"):
        fetch(Repo("owner/other"), wanted)
    with pytest.raises(HubError, match="cannot be reached"):
        fetch(Repo("owner/other", revision="1" * 40), wanted)


def test_offline_mode(repo, here, tmp_path, monkeypatch):
    snapshot = fetch(repo, wanted)
    use(here, tmp_path, monkeypatch, HF_HUB_OFFLINE=True)
    here.requests.clear()
    assert contents(fetch(repo, wanted)) == contents(snapshot)
    for other in (Repo("owner/other"), Repo("owner/other", revision="1" * 40)):
        with pytest.raises(HubError, match=r"not in the cache, and offline mode is on.*HF_HUB_OFFLINE"):
            fetch(other, wanted)
    assert here.requests == []


def test_a_full_disk_is_seen_before_the_download(repo, here, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1000))
    with pytest.raises(HubError, match=r"0\.00 GB are needed.*HF_HOME to a larger disk"):
        fetch(repo, wanted)
    assert not here.fetched("resolve")


def test_a_disk_that_fills_up_meanwhile(repo):
    with pytest.raises(HubError, match=r"the disk is full.*HF_HOME"), library.explained(repo):
        raise OSError(28, "No space left on device")
