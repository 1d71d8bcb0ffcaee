"""Why jobs failed, one line each, read from their log files, which pmqbench/jobs.py writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

LOGGED = re.compile(r"\d{4}-\d\d-\d\d \S+ ([A-Z]+) \S+: (.*)")  # time, level, logger and message, as a job's log has them
LONGEST = 300
SILENT = "it left no error message: was it killed, for memory perhaps?"
UNLOCK = (
    "These results are locked: another Snakemake is at work on them, or one was killed and left its lock behind. If none runs\n"
    "any more, release them by `make unlock` (`snakemake --unlock`) and start again; what was finished is kept."
)


def last_error(logs: Sequence[str]) -> str:
    """The cause of a failure: a job's error message, or the last line of its traceback."""
    lines = [line for log in logs if Path(log).is_file() for line in Path(log).read_text(errors="replace").splitlines()]
    errors = [place for place, line in enumerate(lines) if (entry := LOGGED.match(line)) and entry[1] == "ERROR"]
    if not errors:
        return SILENT
    following = [line.strip() for line in lines[errors[-1] + 1 :] if line.strip() and not LOGGED.match(line)]
    traceback = bool(following) and following[0].startswith("Traceback ")
    cause = following[-1] if traceback else LOGGED.match(lines[errors[-1]])[2]
    return cause if len(cause) <= LONGEST else cause[: LONGEST - 1] + "…"


def failure_list(jobs: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> str:
    """Failed jobs, given as rule, wildcards' values and log files: each with its cause, and where the whole story stands."""
    lines = [
        f"  {' '.join((rule, *wildcards))}: {last_error(logs)}" + (f" [{', '.join(logs)}]" if logs else "")
        for rule, wildcards, logs in sorted(jobs)
    ]
    jobs_failed = "1 job failed" if len(lines) == 1 else f"{len(lines)} jobs failed"
    rest = "What does not depend on them was done; the next run goes on from here."
    return "\n".join((f"{jobs_failed}:", *lines, rest))
