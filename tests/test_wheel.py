"""The wheel holds all that the command needs: schema, shared recipes, definitions, the page's template, the logger plugin."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("setuptools", "77", reason="the lock has it")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel, built from a copy, since setuptools builds beside the sources."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("unpacked")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("pmqbench", "snakemake_logger_plugin_pmqbench"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def run(site, code, *arguments):
    """Runs code far from the checkout, the wheel first on the path."""
    head = f"import sys; sys.path.insert(0, {str(site)!r}); "
    return subprocess.run(
        [sys.executable, "-I", "-c", head + code, *arguments], cwd=site.parent, capture_output=True, text=True
    )


def test_the_command_runs_from_the_wheel(unpacked):
    command = "import runpy; runpy.run_module('pmqbench.cli', run_name='__main__', alter_sys=True)"
    shown = run(unpacked, command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "check" in shown.stdout
    suites = sorted(map(str, ROOT.glob("config/*.yaml")))  # with shared recipes, lists of tasks and definitions
    for suite in suites:
        checked = run(unpacked, command, "check", suite)
        assert checked.stdout.endswith("can be used\n"), checked.stderr


def test_every_file_of_the_packages_is_in_the_wheel(unpacked):
    for package in ("pmqbench", "snakemake_logger_plugin_pmqbench"):
        files = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert [path for path in files if not (unpacked / path.relative_to(ROOT)).is_file()] == []
    assert run(unpacked, "import pmqbench; print(pmqbench.__file__)").stdout.startswith(str(unpacked))
