"""Where checkout, working folder, home and results may lie, and what they may be called."""

import os
import subprocess

import pytest
import yaml

from tests.faults.suite import CONFIG, TARGETS, Disturbed, same

NOBODY = 65534


@pytest.mark.faults
def test_spaces_and_other_scripts_in_every_path_and_results_on_another_file_system(
    small, tmp_path, small_disk, reference, record_property
):
    folder = tmp_path / "Größe & Maß 実験"
    project = small.copy(folder)
    os.rename(project.source, folder / "my checkout é")
    os.rename(project.work / "models", project.work / "modèles à moi")
    disk = tmp_path / "disk two"
    disk.mkdir()
    small_disk(disk, 64)
    (project.work / "results").symlink_to(disk)
    config = yaml.safe_load((project.work / "small.yaml").read_text())
    config |= {
        "base": {"source": "local", "path": "modèles à moi/base"},
        "experts": {"source": "local", "path": "modèles à moi/{task}"},
    }
    (project.work / "naïve config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    project = Disturbed(folder / "my checkout é", project.work)
    configured = ("--configfile", "naïve config.yaml")
    project.snakemake(*configured, "--", *TARGETS)
    same(project, reference)
    assert "Nothing to be done" in project.snakemake(*configured, "--", *TARGETS)
    record_property("outcome", "equal")


@pytest.mark.faults
def test_a_user_without_a_writable_home_or_checkout(small, tmp_path, reference, record_property):
    if os.getuid() != 0:
        pytest.skip("needs root, to become a user who may write nowhere else")
    project = small.copy(tmp_path)
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    subprocess.run(["chmod", "-R", "a-w,a+rX", project.source], check=True)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", project.work], check=True)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    project.variables = {"HOME": str(home)}
    project.user = NOBODY
    project.snakemake(*CONFIG, "--", *TARGETS)
    same(project, reference)
    assert list(home.iterdir()) == []
    record_property("outcome", "equal")
