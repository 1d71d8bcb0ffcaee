"""A process that fails ends all of them, with its message."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from pmqbench import processes
from pmqbench.errors import NumericalError
from pmqbench.processes import ProcessError, run_spread
from tests.distributed.failing import fail, job

LEAD = """
import sys
from pmqbench import processes
from tests.distributed.failing import fail, job
processes.GRACE = 0.5
processes.run_spread(fail, job(2, how=sys.argv[1], folder=sys.argv[2]))
"""


def test_an_error_of_another_process_is_the_jobs():
    with pytest.raises(NumericalError, match=r"^task b: the inputs hold NaN\. Check them\.$"):
        run_spread(fail, job(2, how="error"))


@pytest.mark.faults
def test_a_bug_comes_with_its_traceback():
    with pytest.raises(ProcessError, match=r"(?s)^process 2 of 2: unexpected error:.*in fail.*nothing to divide by"):
        run_spread(fail, job(2, how="bug"))


@pytest.mark.faults
def test_a_killed_process_is_told_of():
    with pytest.raises(ProcessError, match=r"^process 2 of 3: it died with SIGKILL\. If memory ran out: Run fewer jobs"):
        run_spread(fail, job(3, how="killed"))


@pytest.mark.faults
def test_a_silent_process_is_given_up(monkeypatch):
    monkeypatch.setattr(processes, "WAIT", timedelta(seconds=20))
    with pytest.raises(ProcessError, match=r"^processes: another process has not answered for 0:00:20\."):
        run_spread(fail, job(2, how="silent"))


@pytest.mark.faults
def test_the_first_process_ends_even_where_it_does_not_notice(tmp_path):
    done = subprocess.run(command("unnoticed", tmp_path), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "error: process 2 of 2: it died with SIGKILL" in done.stderr


@pytest.mark.faults
def test_none_outlives_the_first(tmp_path):
    """However it is killed: the others end although they wait for it."""
    first = subprocess.Popen(command("wait", tmp_path))
    other = int(read_when_there(tmp_path / "1"))
    first.send_signal(signal.SIGKILL)
    first.wait()
    until = time.monotonic() + 60
    while Path(f"/proc/{other}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{other}").exists()


def command(how: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", LEAD, how, str(folder)]


def read_when_there(path: Path) -> str:
    until = time.monotonic() + 300
    while not path.exists() or not path.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    return path.read_text()
