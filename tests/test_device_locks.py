"""A job's own GPUs, with names in the place of devices: several processes, none of which may hold what another holds."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pmqbench import devices
from pmqbench.errors import ConfigError

ROOT = Path(__file__).parents[1]
JOB = """
import os, sys, time
from pathlib import Path
from pmqbench import devices
devices.POLL_SECONDS = 0.02
devices.take_devices(int(sys.argv[1]), sys.argv[2].split(","))
held = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
marks = [Path("held", name) for name in held]
for mark in marks:
    mark.touch(exist_ok=False)  # fails where another job is on the device
print(*held, flush=True)
time.sleep(float(sys.argv[3]))
for mark in marks:
    mark.unlink()
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Locks of this test's own, as a scheduler's job has them."""
    for name in (devices.HELD, devices.VISIBLE):
        monkeypatch.setenv(name, "")  # remembered, so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_JOB_ID", f"test-{os.getpid()}-{tmp_path.name}")
    yield
    for file in devices.lock_folder().glob("*"):
        file.unlink()
    devices.lock_folder().rmdir()


def start(folder, needed, names="0,1,2", seconds=0.3):
    (folder / "held").mkdir(exist_ok=True)
    command = [sys.executable, "-c", JOB, str(needed), names, str(seconds)]
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


def test_jobs_that_outnumber_the_devices_never_share_one(tmp_path):
    jobs = [start(tmp_path, needed) for needed in (1, 2, 1, 3, 1, 2)]
    had = [job.communicate(timeout=60)[0].split() for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 6
    assert [len(set(names)) for names in had] == [1, 2, 1, 3, 1, 2]
    assert set(Counter(name for names in had for name in names)) == {"0", "1", "2"}


def test_a_killed_job_leaves_its_device(tmp_path):
    killed = start(tmp_path, 1, "0", seconds=60)
    assert killed.stdout.readline() == "0\n"
    waiting = start(tmp_path, 1, "0")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    (tmp_path / "held" / "0").unlink()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert waiting.communicate(timeout=60)[0] == "0\n"


def test_a_waiting_job_says_so_and_what_it_got(caplog, monkeypatch, tmp_path):
    caplog.set_level("INFO")
    holders = [start(tmp_path, 1, "3,4", seconds=60) for _ in range(2)]
    held = [job.stdout.readline().strip() for job in holders]

    def end_the_first(seconds):
        holders[0].kill()
        holders[0].wait()

    monkeypatch.setattr(devices.time, "sleep", end_the_first)
    devices.take_devices(1, ["3", "4"])
    assert os.environ[devices.VISIBLE] == held[0]
    assert caplog.messages == ["waiting for a GPU: 2 of 2 are taken by other jobs", f"GPU {held[0]} of 3,4"]
    devices.take_devices(1, ["3", "4"])  # once more, as the commands do, whose steps share a process
    assert os.environ[devices.VISIBLE] == held[0]
    holders[1].kill()


def test_only_what_is_visible_is_taken(monkeypatch):
    assert devices.visible(2) == ["0", "1"]
    monkeypatch.setenv(devices.VISIBLE, "GPU-8f, 5,6")
    assert devices.visible(3) == ["GPU-8f", "5", "6"]
    with pytest.raises(ConfigError, match=r"needs 4 GPUs and sees 3\. .*set it to 3"):
        devices.take_devices(4, devices.visible(3))
    devices.lock_folder().mkdir()
