"""A job that gets no memory says so, whether it was refused some or killed for it, and the next run goes on."""

import os
from pathlib import Path

import pytest

from tests.faults.suite import CONFIG

CGROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def little_memory():
    """A control group (version 1) in which the kernel kills what takes more memory than this."""
    group = CGROUPS / f"pmqbench-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(220 << 20))
    except OSError:
        pytest.skip("no control group for memory can be made here (needs root and cgroups of version 1)")
    yield group
    group.rmdir()


@pytest.mark.faults
def test_a_job_that_is_refused_more(project, record_property):
    code, screen = project.run_disturbed("fetch_base", "out of memory", *CONFIG, "--until", "fetch_base", event=2)
    assert code == 1
    assert "memory" in screen
    assert project.half_written() == []
    project.snakemake(*CONFIG, "--until", "fetch_base")
    record_property("outcome", "said so; the next run went on")


@pytest.mark.faults
def test_a_job_that_the_kernel_kills_for_it(project, little_memory, record_property):
    project.snakemake(*CONFIG, "--until", "prepare_task")
    run = project.start_disturbed("fetch_base", "move to group", *CONFIG, "--until", "fetch_base", event=0, group=little_memory)
    assert run.wait(timeout=3000) == 1
    screen = project.screen.read_text()
    assert "SIGKILL" in screen
    assert "memory" in screen
    assert project.half_written() == []
    project.snakemake(*CONFIG, "--until", "fetch_base")
    record_property("outcome", "said so; the next run went on")
