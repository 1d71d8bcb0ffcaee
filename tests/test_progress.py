"""What a run says while it runs and when jobs fail: lines and the time left."""

import pytest

from pmqbench.workflow.progress import Job, Run, duration


def run_of(**planned):
    return Run(planned=planned)


def test_a_line_per_finished_job_with_the_time_left():
    run = run_of(merge=2, quantize=9)
    run.start(1, Job("merge", ("ta",), 0.0))
    assert run.seconds_left(5.0) is None
    assert run.finish(1, 10.0) == " 1/11 merge ta (10 s), 2 min left"
    assert run.seconds_left(10.0) == 100.0


def test_time_left_follows_rules_running_jobs_and_what_runs_side_by_side():
    run = run_of(slow=2, fast=4)
    run.start(1, Job("slow", (), 0.0))
    run.start(2, Job("fast", (), 0.0))
    run.finish(2, 10.0)
    run.start(3, Job("fast", (), 10.0))
    run.finish(3, 20.0)
    run.finish(1, 40.0)
    run.start(4, Job("slow", (), 40.0))
    # One slow job is left half-done, two fast ones wait; so far 80 s of work were done in 60 s.
    assert run.seconds_left(60.0) == pytest.approx((20 + 2 * 10) / (80 / 60))


def test_a_job_that_takes_longer_than_its_like_is_about_to_end():
    run = run_of(a=2)
    run.start(1, Job("a", (), 0.0))
    run.finish(1, 10.0)
    run.start(2, Job("a", (), 10.0))
    assert run.seconds_left(500.0) == 0


def test_failed_jobs_are_not_waited_for():
    run = run_of(a=3)
    run.start(1, Job("a", (), 0.0))
    run.finish(1, 10.0)
    run.start(2, Job("a", ("x",), 10.0))
    assert run.fail(2, 14.0) == "FAILED a x (4 s)"
    assert run.seconds_left(14.0) == 10
    run.start(3, Job("a", (), 14.0))
    assert run.finish(3, 24.0) == "2/3 a (10 s), 0 s left"


def test_a_job_that_is_tried_again_is_one_job():
    run = run_of(a=1)
    run.start(1, Job("a", (), 0.0))
    run.fail(1, 4.0)
    run.start(1, Job("a", (), 5.0))
    assert run.failed == {}
    assert run.finish(1, 8.0) == "1/1 a (3 s)"
    assert run.seconds_left(8.0) == 0


def test_the_last_line_has_no_time_left():
    run = run_of(a=1)
    run.start(1, Job("a", (), 0.0))
    assert run.finish(1, 3.0) == "1/1 a (3 s)"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (5370, "1 h 30 min"), (5340, "89 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_a_long_job_is_shown_with_what_its_log_last_said(tmp_path):
    log = tmp_path / "job.log"
    run = run_of(refine=2, merge=1)
    run.start(1, Job("refine", ("ta",), 0.0, (str(log),)))
    run.start(2, Job("merge", ("ties",), 550.0))
    assert run.long_running(600.0, 300) == ["refine ta (10 min)"]
    lines = [f"steps {done} of 1000: {done // 10}% done, 7 min left; 10 min so far, 2.0 GB of memory" for done in (500, 600)]
    log.write_text("".join(f"2026-11-26 16:40:07,137 INFO pmqbench.heartbeat: {line}\n" for line in lines))
    assert run.long_running(600.0, 300) == ["refine ta (10 min): steps 600 of 1000: 60% done, 7 min left"]
