"""One undisturbed run to compare with, and the fault matrix: what each scenario came to, printed at the end."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.suite import Disturbed, finish, outcome, publish, small_config
from tests.workflow.conftest import write_project

CLONE_NEWNS = 0x00020000  # linux/sched.h
ROWS: list[tuple[str, str, float]] = []


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Disturbed:
    """Sources, models and config of the small suite, nothing run yet."""
    source, work = write_project(tmp_path_factory.mktemp("small"), "small.yaml", small_config())
    (source / "leaderboard").mkdir()
    publish(source)
    return Disturbed(source, work)


@pytest.fixture(scope="session")
def undisturbed(small, tmp_path_factory) -> Disturbed:
    """The small suite run to its end: report, joint leaderboard, exported models."""
    project = copy_of(small, tmp_path_factory.mktemp("undisturbed"))
    finish(project)
    return project


@pytest.fixture(scope="session")
def reference(undisturbed) -> dict[str, str]:
    """What every scenario has to come to."""
    return outcome(undisturbed)


@pytest.fixture
def project(small, tmp_path) -> Disturbed:
    """A project of the test's own, nothing run yet."""
    return copy_of(small, tmp_path)


@pytest.fixture
def finished(undisturbed, tmp_path) -> Disturbed:
    """A copy of the finished run."""
    return copy_of(undisturbed, tmp_path)


@pytest.fixture(scope="session")
def private_mounts() -> None:
    """From here on what this process and its children mount is seen by nobody else, and goes with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.getuid() != 0 or libc.unshare(CLONE_NEWNS) != 0:
        pytest.skip("mounting a small disk needs root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@pytest.fixture(scope="session")
def small_disk(private_mounts) -> Callable[[Path, int], None]:
    """Mounts a file system of a few megabytes on a folder."""

    def mount(folder: Path, megabytes: int) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "small", folder], check=True)

    return mount


def copy_of(project: Disturbed, folder: Path) -> Disturbed:
    copied = project.copy(folder)
    return Disturbed(copied.source, copied.work)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds a scenario's row: its name, what was seen, seconds."""
    report = (yield).get_result()
    if report.when == "call" or report.outcome == "skipped":
        said = "; ".join(value for name, value in report.user_properties if name == "outcome")
        if report.outcome == "skipped":
            said = str(report.longrepr[2])
        scenario = item.name.removeprefix("test_").replace("_", " ")
        ROWS.append((scenario, f"{report.outcome}: {said}".rstrip(": "), call.duration))


def pytest_terminal_summary(terminalreporter):
    """Prints the fault matrix."""
    if ROWS:
        terminalreporter.section("fault matrix")
        terminalreporter.write_line("| scenario | outcome | seconds |\n|:--|:--|--:|")
        for name, outcome_, seconds in ROWS:
            terminalreporter.write_line(f"| {name} | {outcome_} | {seconds:.0f} |")
