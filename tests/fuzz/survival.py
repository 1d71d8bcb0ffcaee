"""The one property of all fuzz tests: a right result or a PMQError that says where and what to do; no hang, no hoarding."""

import contextlib
import resource
import signal
import sys
from pathlib import Path

from pmqbench.errors import PMQError

CPU_SECONDS, SECONDS = 20, 120
BYTES = 3 * 2**30
"""That a call may map beyond what its process has already."""


def outcome(call, *arguments, **named):
    """What the call returns, or the PMQError that it ends with; any other end is a finding and fails the test."""
    refused = None
    try:
        with limited():
            return call(*arguments, **named)
    except PMQError as error:
        refused = error
    assert refused.what, "says nothing"
    assert refused.where, f"says not where: {refused}"
    told = refused.remedy or " must " in f" {refused.what}" or ": " in refused.where  # a field, to be mended
    assert told, f"has no remedy: {refused}"
    str(refused).encode()  # a terminal can show it
    return refused


@contextlib.contextmanager
def limited():
    """Ends what takes too long or too much memory, by an exception that no code expects."""

    def stop(*_):
        raise TimeoutHang(f"no answer within {CPU_SECONDS} s of work, or {SECONDS} s")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, CPU_SECONDS), signal.ITIMER_REAL: (signal.SIGALRM, SECONDS)}
    before = {number: signal.signal(number, stop) for number, _ in timers.values()}
    memory = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + BYTES, memory[1]))
    for timer, (_, seconds) in timers.items():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        resource.setrlimit(resource.RLIMIT_AS, memory)
        for number, handler in before.items():
            signal.signal(number, handler)


class TimeoutHang(BaseException):
    """Not an Exception, so that nothing swallows it."""
