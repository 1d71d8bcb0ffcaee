"""What is said of jobs that failed: the cause of each, what it was killed by, and what to do; causes in order, each once."""

import errno
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pmqbench import machine
from pmqbench.errors import DataError, ResourceError
from pmqbench.exhausted import explained
from pmqbench.jobs import BEGAN
from pmqbench.workflow import failures
from pmqbench.workflow.failures import Failure, cause_of, failure_table, finished
from tests.job_runs import fail_as_job


@pytest.fixture
def failed(tmp_path):
    """A job that a function ends, with its log as jobs write it."""

    def fail(function):
        fail_as_job(function, tmp_path / "job.log")
        return Failure("merge_experts", ("ta",), (str(tmp_path / "job.log"),))

    return fail


def raising(error):
    def main(_):
        raise error

    return main


def test_the_cause_is_the_jobs_message(failed):
    error = DataError("the tensor is missing.", where="experts/digits", remedy="Fetch it again.")
    assert cause_of(failed(raising(error))) == "experts/digits: the tensor is missing. Fetch it again."


def test_the_cause_of_an_unexpected_error_is_the_exception(failed):
    assert cause_of(failed(raising(RuntimeError("shapes differ")))) == "RuntimeError: shapes differ"


def test_a_full_memory_says_what_to_do(failed):
    job = failed(
        raising(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9e12 bytes"))
    )
    assert re.match(r"the memory is full \([\d.]+ GB are in use, 4\.0 GB were asked for\)\. Run fewer jobs", cause_of(job))
    assert "Traceback" in Path(job.logs[0]).read_text()


def test_a_terminated_job_says_so(failed):
    assert "SIGTERM" in cause_of(failed(lambda _: os.kill(os.getpid(), signal.SIGTERM)))


class ForeignError(Exception):
    """An error of a library that has no class for what the system said."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), r"the memory is full"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/proc/x/model.safetensors"),
            r"^/proc/x/model\S+: no space left on /proc: ",
        ),
        (
            ForeignError("Error while serializing: I/O error: No space left on device (os error 28)"),
            r"no space left on /.*GB are free",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/proc/x"),
            r"^/proc/x: the file system /proc is read-only\. .*--directory",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/proc/x"), r"^/proc/x: this user may not"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 20 GiB.\nMore"),
            r"the device's memory is full \(.*GiB\.\)\. Make the batches",
        ),
    ],
)
def test_what_libraries_raise_is_explained(error, said):
    assert re.search(said, str(explained(error)))


def test_a_cause_behind_another_error_counts_and_others_stay_as_they_are():
    error = ValueError("could not save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/x")
    assert isinstance(explained(error), ResourceError)
    assert explained(ValueError("shapes differ")) is None
    assert explained(FileNotFoundError(errno.ENOENT, "No such file", "/x")) is None


@pytest.fixture
def silent(tmp_path):
    """A job whose log ends without a word, on this machine."""

    def write(kills=3, host=None):
        log = tmp_path / "job.log"
        lines = [
            "INFO pmqbench: merge_experts {'merge': 'ta'}",
            "INFO pmqbench: " + BEGAN % (host or platform.node(), 1, 4000, kills),
            "INFO pmqbench.heartbeat: memory: 1.3 GB",
            "INFO pmqbench.heartbeat: layers 3 of 72: 4 % done, 4 min left; 8 s so far, 3.9 GB of memory",
        ]
        log.write_text("".join(f"2026-11-26 16:40:07,137 {line}\n" for line in lines))
        return Failure("merge_experts", ("ta",), (str(log),))

    return write


def test_a_job_killed_for_memory_says_so_with_what_it_asked_for_and_used(silent, monkeypatch):
    monkeypatch.setattr(failures, "kills_for_memory", lambda: 4)
    said = cause_of(silent())
    assert said.startswith("killed by the system because memory ran out (it had asked for 4.0 GB of memory, used 3.9 GB when")
    assert "--set-resources merge_experts:mem_mb=8000" in said


def test_a_job_killed_by_somebody_is_not_said_to_lack_memory(silent, monkeypatch):
    monkeypatch.setattr(failures, "kills_for_memory", lambda: 3)
    assert "not for memory" in cause_of(silent())
    assert "killed on node7 without a word" in cause_of(silent(host="node7"))
    assert "for memory perhaps" in cause_of(silent(kills=None))


def test_kills_for_memory_are_those_of_the_process_own_group(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MOUNT", tmp_path)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "VMSTAT", tmp_path / "vmstat")
    assert machine.kills_for_memory() is None
    (tmp_path / "vmstat").write_text("pgfault 3\noom_kill 9\n")
    assert machine.kills_for_memory() == 9
    (tmp_path / "cgroup").write_text("4:memory:/jobs/1\n0::/\n")
    (tmp_path / "memory/jobs/1").mkdir(parents=True)
    (tmp_path / "memory/jobs/1/memory.oom_control").write_text("under_oom 0\noom_kill 2\n")
    assert machine.kills_for_memory() == 2
    (tmp_path / "cgroup").write_text("0::/of/the/host\n")
    (tmp_path / "memory.events").write_text("oom 1\noom_kill 5\n")
    assert machine.kills_for_memory() == 5


def test_a_job_without_a_log_of_this_run_never_began(silent):
    job = silent()
    os.utime(job.logs[0], (1000, 1000))
    assert "before it began" in cause_of(job, since=2000)
    assert "before it began" in cause_of(Failure("merge_experts"))


def test_of_a_group_the_jobs_that_were_done_are_told_apart(failed, tmp_path):
    assert not finished(failed(raising(DataError("no."))))
    (tmp_path / "job.log").write_text("2026-11-26 16:40:07,137 INFO pmqbench: done in 3.0 s, peak memory 300 MB\n")
    assert finished(Failure("merge_experts", (), (str(tmp_path / "job.log"),)))


def test_files_that_snakemake_did_not_take_are_laid_to_a_clock_if_one_was_wrong(tmp_path):
    log, read = tmp_path / "job.log", tmp_path / "read"
    log.write_text("2026-11-26 16:40:07,137 INFO pmqbench: done in 3.0 s, peak memory 300 MB\n")
    read.touch()
    job = Failure("merge_experts", (), (str(log),), inputs=(str(tmp_path / "missing"), str(read)))
    assert cause_of(job) == "it was done, but Snakemake did not take what it wrote; Snakemake's log, named below, says why."
    os.utime(read, (4e9, 4e9))
    assert cause_of(job).startswith(f"{read} has a time that is still to come (2096-")


def test_a_long_cause_is_cut(tmp_path):
    log = tmp_path / "job.log"
    log.write_text(f"2026-11-26 16:40:07,137 ERROR pmqbench: {'x' * 1000}\n")
    assert re.fullmatch(r"x{299}…", cause_of(Failure("a", (), (str(log),))))


def test_the_table_has_each_cause_once_and_first_what_holds_up_most(tmp_path):
    logs = {cause: tmp_path / f"{cause}.log" for cause in ("small", "large")}
    for cause, log in logs.items():
        log.write_text(f"2026-11-26 16:40:07,137 ERROR pmqbench: a {cause} thing.\n")
    failed = [Failure("quantize", (f"q{place}",), (str(logs["small"]),), 1) for place in range(7)]
    failed.append(Failure("fetch", ("digits",), (str(logs["large"]),), 30))
    lines = failure_table(failed, {"evaluate": 37, "rank": 1}).splitlines()
    assert lines[:4] == ["8 jobs failed, for 2 causes:", "", "  a large thing.", f"    fetch digits  {logs['large']}"]
    assert lines[5:7] == ["  a small thing.", f"    quantize q0  {logs['small']}"]
    assert lines[11:] == [
        "    and 2 more",
        "",
        "Not begun because of them: 38 jobs (evaluate 37, rank 1).",
        "",
        "What does not depend on them was done; the next run goes on from here.",
    ]
    assert failure_table(failed[-1:], {}).startswith("1 job failed:\n")


def test_a_process_that_memory_kills_is_counted(tmp_path):
    """A real one, in a control group of 60 MB, where this user may make one."""
    group = Path("/sys/fs/cgroup/memory/pmqbench-test")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(60_000_000))
    except OSError:
        pytest.skip("needs a memory control group of its own (version 1, as root)")
    try:
        code = (
            "import os, subprocess, sys\n"
            f"open('{group}/cgroup.procs', 'w').write(str(os.getpid()))\n"
            "from pmqbench.machine import kills_for_memory\n"
            "before = kills_for_memory()\n"
            "grown = subprocess.run([sys.executable, '-c', 'x = bytearray(10**9)'])\n"
            "print(before, kills_for_memory(), grown.returncode)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == ["0", "1", "-9"], done.stderr
    finally:
        group.rmdir()
