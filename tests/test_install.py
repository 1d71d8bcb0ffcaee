"""The progress of `make install`: few lines, all of pip's in a file, its end where it fails."""

import sys

from pmqbench.workflow.install import EVERY, install, progress

LINES = [
    "Ignoring colorama: markers \"sys_platform == 'win32'\" don't match your environment\n",
    "Collecting aiohttp==3.14.5 (from -r requirements.lock (line 3))\n",
    "  Downloading aiohttp-3.14.5.whl (1.7 MB)\n",
    "Requirement already satisfied: torch==2.15.0 in .venv (from -r requirements.lock (line 9)) (2.15.0)\n",
    "Processing /opt/wheels/open_clip_torch-3.3.0-py3-none-any.whl (from -r requirements.lock (line 12))\n",
    "Installing collected packages: aiohttp\n",
]


def test_packages_are_counted():
    said = [text for _, text in progress(LINES, 4)]
    assert said == [
        "1/4 packages: colorama",
        "2/4 packages: aiohttp",
        "3/4 packages: torch",
        "4/4 packages: open_clip_torch",
        "4/4 packages are here, unpacking takes a minute or more",
    ]


def fake_pip(code, packages):
    program = f"for number in range({packages}): print(f'Collecting package{{number}}==1')\nprint('the end')\nexit({code})"
    return [sys.executable, "-c", program]


def test_a_pipe_gets_a_line_now_and_then_and_a_file_all(tmp_path, capfd):
    log = tmp_path / "install.log"
    assert install(fake_pip(0, 2 * EVERY + 1), 2 * EVERY + 2, log) == 0
    said = capfd.readouterr()
    assert said.out.splitlines() == [f"{count}/{2 * EVERY + 2} packages: package{count - 1}" for count in (EVERY, 2 * EVERY)]
    assert said.err == ""
    assert len(log.read_text().splitlines()) == 2 * EVERY + 2


def test_pips_failure_is_shown_with_its_last_words(tmp_path, capfd):
    log = tmp_path / "install.log"
    assert install(fake_pip(3, 40), 50, log) == 3
    lines = capfd.readouterr().err.splitlines()
    assert lines[-2:] == ["the end", f"pip failed; all that it said: {log}"]
    assert len(lines) == 21
