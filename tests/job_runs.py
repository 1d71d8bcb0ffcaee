"""Runs a function as a job of the workflow is run, and leaves logging and signals as they were."""

import logging
import signal
from types import SimpleNamespace

import pytest

from pmqbench.jobs import run_job


def fail_as_job(main, log, rule="merge_experts", **changes):
    """Runs `main` as a job that fails; returns what it ended with."""
    given = {"wildcards": {"merge": "ta"}, "threads": 1, "params": {}, "resources": {"mem_mb": 4000}}
    given |= {"input": [], "output": ["results/merged/ta/manifest.json"]}
    job = SimpleNamespace(log=[str(log)], rule=rule, **(given | changes))
    loggers = [logging.getLogger(), logging.getLogger("pmqbench")]
    before = [(list(one.handlers), one.level) for one in loggers]
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises((SystemExit, RuntimeError)) as caught:
            run_job(main, job)
    finally:
        logging.captureWarnings(False)
        logging.raiseExceptions = True
        for one, (handlers, level) in zip(loggers, before, strict=True):
            one.handlers = handlers
            one.setLevel(level)
        for number, handler in signals.items():
            signal.signal(number, handler)
    return caught.value
