"""The hub's stand-in for a test, with a cache (HF_HOME) of its own, in this process and in those it starts."""

import os

import pytest

from pmqbench.hub import Repo
from tests.hub.server import Hub


@pytest.fixture
def hub():
    with Hub() as running:
        yield running


@pytest.fixture
def here(hub, tmp_path, monkeypatch):
    """Points huggingface_hub of this process at the stand-in (it read its environment when it was imported)."""
    use(hub, tmp_path, monkeypatch)
    return hub


def use(hub, tmp_path, monkeypatch, **changed):
    from huggingface_hub import constants

    values = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hf" / "hub"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN_PATH": str(tmp_path / "hf" / "token"),
        "HF_HUB_OFFLINE": False,
    }
    for name, value in (values | changed).items():
        monkeypatch.setattr(constants, name, value)


def environment(hub, home):
    """Environment of a process that uses the stand-in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MLFLOW_", "PYTHONPATH"))}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return kept | quiet | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home)}


@pytest.fixture
def repo(here):
    """A repository with a large and a small file."""
    here.add("models", "owner/name", {"model.safetensors": bytes(range(256)) * 4000, "config.json": b"{}", "big.bin": b"x"})
    return Repo("owner/name")
