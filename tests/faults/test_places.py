"""Where checkout, working folder, home and results may lie, what they may be called, and whose they may be."""

import os
import subprocess

import pytest
import yaml

from tests.faults.suite import TARGETS, Disturbed, same

NOBODY = 65534
CONFIG = "naïve config.yaml"


def let_through(folder):
    """Lets every user pass the folders above, which pytest makes for its own."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_mode & 0o011 != 0o011:
            parent.chmod(parent.stat().st_mode | 0o011)


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
    (work / CONFIG).write_text(yaml.safe_dump(config, allow_unicode=True))
    disk.mkdir()
    small_disk(disk, 64)
    (work / "results").symlink_to(disk)
    home.mkdir(mode=0o555)
    subprocess.run(["chmod", "-R", "a-w,a+rX", source], check=True)
    subprocess.run(["chown", "-hR", f"{NOBODY}:{NOBODY}", work, disk], check=True)
    let_through(tmp_path)
    project = Disturbed(source, work)
    project.user, project.variables = NOBODY, {"HOME": str(home), "PYTHONPATH": str(source)}
    return project


@pytest.mark.faults
def test_an_unfriendly_place(unfriendly, tmp_path, reference, record_property):
    arguments = ("--logger", "pmqbench", "--configfile", CONFIG, "--", *TARGETS)
    unfriendly.snakemake(*arguments)
    same(unfriendly, reference)
    assert "Nothing to be done" in unfriendly.snakemake(*arguments)
    assert os.listdir(tmp_path / "home") == []
    record_property("outcome", "equal")
