"""Where checkout, working folder, home and results may lie, what they may be called, and what may be written."""

import os
import subprocess

import pytest
import yaml

from tests.faults.suite import TARGETS, Disturbed, finish, same

CONFIG = "naïve config.yaml"
BOUND = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""Runs a command of root's that may not write where modes forbid it, as any user may not."""


@pytest.fixture
def unfriendly(small, tmp_path, small_disk):
    """Spaces and letters of several scripts in every path, checkout and home read-only, results linked to another disk."""
    folder = tmp_path / "Größe & Maß 実験"
    copied = small.copy(folder)
    source, work, disk, home = folder / "my checkout é", copied.work, tmp_path / "disk two", tmp_path / "home"
    copied.source.rename(source)
    (work / "models").rename(work / "modèles à moi")
    places = {"base": "modèles à moi/base", "experts": "modèles à moi/{task}"}
    config = yaml.safe_load((work / "small.yaml").read_text())
    config |= {role: {"source": "local", "path": path} for role, path in places.items()}
    (work / CONFIG).write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False))
    disk.mkdir()
    small_disk(disk, 64)
    (work / "results").symlink_to(disk)
    home.mkdir(mode=0o555)
    subprocess.run(["chmod", "-R", "a-w,a+rX", source], check=True)
    project = Disturbed(source, work)
    project.prefix, project.variables = (
        BOUND,
        {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(work / ".snakemake/cache"),
            "PYTHONPATH": str(source),
        },
    )
    return project


@pytest.mark.faults
def test_an_unfriendly_place(unfriendly, tmp_path, reference, record_property):
    probe = subprocess.run([*unfriendly.prefix, "touch", unfriendly.source / "probe"], capture_output=True)
    assert probe.returncode != 0
    options = ("--logger", "pmqbench", "--configfile", CONFIG)
    finish(unfriendly, *options)
    same(unfriendly, reference)
    assert "Nothing to be done" in unfriendly.snakemake(*options, "--", *TARGETS)
    assert os.listdir(tmp_path / "home") == []
    record_property("outcome", "equal")
