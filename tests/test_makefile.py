"""The Makefile's own logic: which report is written anew, and what an unknown target is answered."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def page(folder):
    """What make would do for the page of the report in `folder`."""
    command = ["make", "-n", "-f", str(ROOT / "Makefile"), "REPORT=report", "report/report.html"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_report_page_follows_every_file_that_it_shows(tmp_path):
    shown = [tmp_path / "report" / name for name in ("leaderboard.csv", "leaderboard.md", "plots/a.svg", "plots/a.png")]
    shown.append(tmp_path / "docs/captions/plots.rst")
    for file in (*shown, tmp_path / "report/report.html"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (1000, 1000))
    assert "up to date" in page(tmp_path)
    for file in shown:
        os.utime(file, (2000, 2000))
        assert "--report report/report.html" in page(tmp_path), file
        os.utime(file, (1000, 1000))


def test_snakemake_has_a_cache_where_the_home_cannot_be_written(tmp_path):
    def caches(home):
        command = ["make", "-pn", "-f", str(ROOT / "Makefile"), "help"]
        variables = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"} | {"HOME": str(home)}
        said = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True).stdout
        return [line for line in said.splitlines() if line.startswith("XDG_CACHE_HOME")]

    assert caches(tmp_path) == []
    assert caches("/proc/none") == [f"XDG_CACHE_HOME := {tmp_path}/.snakemake/cache"]


def test_what_a_user_writes_is_no_part_of_a_command(tmp_path):
    """Quotes, spaces and commands in names reach the program as they are, and the shell runs none of them."""
    said = tmp_path / "said"
    for program in ("python", "snakemake"):
        fake = tmp_path / "bin" / program
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {said}\n')
        fake.chmod(0o755)
    (tmp_path / "installed").touch()
    evil = """A "B" 'C' `touch pwned` ; touch pwned; $$(touch pwned) && touch pwned"""
    given = [f"{name}={evil}" for name in ("SUITE", "TARGET", "MODEL", "BY", "LINK", "AGAINST")]
    command = ["make", "-f", str(ROOT / "Makefile"), f"BIN={tmp_path}/bin", "INSTALLED=installed", "-o", "installed", *given]
    for goal in ("run", "show", "unlock", "estimate", "doctor", "reproduce", "report", "submit", "readme", "export"):
        subprocess.run([*command, goal], cwd=tmp_path, capture_output=True, text=True)
    assert not (tmp_path / "pwned").exists()
    written, plain = said.read_text().splitlines(), evil.replace("$$", "$")
    assert {plain, f"config/{plain}.yaml", f"reproduced/{plain}/first"} <= set(written)
