"""Lines that a long job writes while it works: how far its loops are, the time left, its memory."""

import logging
import time

import pytest

from pmqbench import heartbeat
from pmqbench.heartbeat import Rounds, each, position, rounds


def loop(what, total, done, before=0):
    made = Rounds(what, total, before, began=0.0)
    made.advance(done - before)
    return made


@pytest.mark.parametrize(
    ("loops", "said"),
    [
        ([loop("layers", 72, 18)], "layers 18 of 72: 25% done, 5 min left"),
        ([loop("models", 4, 1), loop("tasks", 2, 1)], "models 1 of 4, tasks 1 of 2: 38% done, 3 min left"),
        ([loop("steps", 1000, 600, before=500)], "steps 600 of 1000: 60% done, 7 min left"),
        ([loop("layers", 72, 0)], "layers 0 of 72: 0% done"),
        ([loop("images", 0, 0)], ""),
    ],
)
def test_the_time_left_is_that_of_the_outermost_loop(loops, said):
    assert position(loops, now=100.0) == said


def test_loops_are_at_work_as_long_as_their_body_runs():
    seen = []
    for _ in each("ab", "models"):
        with rounds("layers", 3) as layers:
            layers.advance(2)
            seen.append(position(heartbeat._at_work, time.monotonic()).split(":")[0])
    assert seen == ["models 0 of 2, layers 2 of 3", "models 1 of 2, layers 2 of 3"]
    assert heartbeat._at_work == []


def test_a_long_job_writes_lines_and_a_short_one_none(caplog, monkeypatch):
    monkeypatch.setattr(heartbeat, "memory_gb", iter([0.5, 1.2, 1.3, 2.0, *[2.0] * 1000]).__next__)
    with caplog.at_level(logging.INFO), heartbeat.heartbeat(every=0.05):
        for _ in each(range(2), "candidates"):
            time.sleep(0.2)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.startswith("memory")] == ["memory: 1.2 GB", "memory: 2.0 GB"]
    assert any(line.startswith("candidates 1 of 2: 50% done, 0 s left; 0 s so far, 2.0 GB") for line in lines)
    caplog.clear()
    with caplog.at_level(logging.INFO), heartbeat.heartbeat():
        pass
    assert caplog.records == []
