"""Why a run failed: the causes, read from jobs' log files (pmqbench/jobs.py writes them), and the jobs that each took along."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pmqbench.exhausted import more_memory
from pmqbench.machine import disk, kills_for_memory

LOGGED = re.compile(r"\d{4}-\d\d-\d\d \S+ ([A-Z]+) \S+: (.*)")  # time, level, logger and message, as a job's log has them
BEGAN = re.compile(r"on (\S*), \d+ threads, (\d+|no) MB of memory asked for; (\d+|None) kills for memory there before")
MEMORY = re.compile(r"(?:memory: |, )([\d.]+) GB(?: of memory)?$")
LONGEST = 300
SHOWN = 5  # jobs of one cause
FULL_GB = 0.005
UNLOCK = (
    "These results are locked: another Snakemake is at work on them, or one was killed and left its lock behind. If none runs\n"
    "any more (`pmqbench doctor` looks), release them by `make unlock` (`snakemake --unlock`) and start again; what was\n"
    "finished is kept."
)


@dataclass(frozen=True)
class Failure:
    """A job that failed.

    Attributes:
        rule: its rule.
        wildcards: their values.
        logs: its log files.
        holds_up: how many jobs wait for it, and for those that wait.
        inputs: the files that it read.
    """

    rule: str
    wildcards: Sequence[str] = ()
    logs: Sequence[str] = ()
    holds_up: int = 0
    inputs: Sequence[str] = ()

    @property
    def name(self) -> str:
        """'merge_experts ties-1f0c22aa'."""
        return " ".join((self.rule, *self.wildcards))


def cause_of(failure: Failure, since: float = 0.0) -> str:
    """Why a job failed: its error message, the last line of its traceback, or what killed it.

    Args:
        failure: the job.
        since: when the run began, in seconds since the epoch; logs that are older are of other runs.
    """
    logs = [path for path in map(Path, failure.logs) if path.is_file() and path.stat().st_mtime >= since]
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    if not lines:
        full = next((told for log in failure.logs if (told := _full(log))), "")
        return full or "it failed before it began to work; Snakemake's own log says more."
    errors = [place for place, line in enumerate(lines) if (entry := LOGGED.match(line)) and entry[1] == "ERROR"]
    if not errors and finished(failure, since):
        return _not_taken(failure.inputs)
    full = _full(failure.logs[0])
    if not errors:
        return full or _killed(failure.rule, lines)
    following = [line.strip() for line in lines[errors[-1] + 1 :] if line.strip() and not LOGGED.match(line)]
    traceback = bool(following) and following[0].startswith("Traceback ")
    cause = following[-1] if traceback else LOGGED.match(lines[errors[-1]])[2]
    cause = cause if len(cause) <= LONGEST else cause[: LONGEST - 1] + "…"
    return f"{cause} {full}" if full and "no space left" not in cause.lower() else cause


def finished(failure: Failure, since: float = 0.0) -> bool:
    """Whether a job's log says that it was done: of a group that failed, some jobs were."""
    logs = [path for path in map(Path, failure.logs) if path.is_file() and path.stat().st_mtime >= since]
    return any(" INFO pmqbench: done in " in log.read_text(errors="replace") for log in logs)


def _killed(rule: str, lines: Sequence[str]) -> str:
    """What is to be said of a job whose log ends without a word."""
    told = next((found for line in lines if (found := BEGAN.search(line))), None)
    used = next((found[1] for line in reversed(lines) if (found := MEMORY.search(line))), None)
    asked = int(told[2]) if told and told[2] != "no" else None
    memory = ", ".join(
        [
            *([f"it had asked for {asked / 1e3:.1f} GB of memory"] if asked else []),
            *([f"used {used} GB when it last said"] if used else []),
        ]
    )
    memory = f" ({memory})" if memory else ""
    here, before = told and told[1] == platform.node(), told and told[3] != "None" and int(told[3])
    now = kills_for_memory() if here else None
    if now is None or not told or told[3] == "None":
        where = f" on {told[1]}" if told else ""
        return f"killed{where} without a word{memory}: for memory perhaps, or by a time limit. {more_memory(rule, asked)}"
    if now > before:
        return f"killed by the system because memory ran out{memory}. {more_memory(rule, asked)}"
    return f"killed from outside, and not for memory{memory}: by a person, or by a limit of its scheduler. Run again."


def _not_taken(inputs: Sequence[str]) -> str:
    """What is to be said of a job that was done, but whose files Snakemake removed, since something that it read is newer."""
    now = time.time()
    future = [path for path in map(Path, inputs) if path.exists() and path.stat().st_mtime > now]
    if not future:
        return "it was done, but Snakemake did not take what it wrote; Snakemake's log, named below, says why."
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(future[0].stat().st_mtime))
    return (
        f"{future[0]} has a time that is still to come ({when}), so that nothing made from it is newer. If the clock is right "
        "now: find -L results -newermt now -exec touch {} +, and run again."
    )


def _full(log: str) -> str:
    """What is to be said of a job that could not write its log, or its end; '' where there is space."""
    mount, free, _ = disk(log)
    return f"No space left on {mount}, not even for the end of its log. Free some and run again." if free < FULL_GB else ""


def failure_table(failures: Iterable[Failure], waiting: Mapping[str, int], since: float = 0.0) -> str:
    """The causes of a run's failure, that which holds up most jobs first, each with the jobs that it ended and their logs.

    Args:
        failures: jobs that failed.
        waiting: rule -> jobs that were not begun.
        since: when the run began, in seconds since the epoch.
    """
    causes: dict[str, list[Failure]] = {}
    for failure in failures:
        causes.setdefault(cause_of(failure, since), []).append(failure)
    failed = sum(map(len, causes.values()))
    ranked = sorted(causes.items(), key=lambda pair: (-sum(one.holds_up for one in pair[1]), pair[1][0].name))
    lines = [f"{_count(failed, 'job')} failed" + (f", for {len(causes)} causes:" if len(causes) > 1 else ":")]
    for cause, jobs in ranked:
        width = max(len(one.name) for one in jobs[:SHOWN])
        lines += ["", f"  {cause}"]
        lines += [f"    {one.name:{width}}  {' '.join(one.logs)}".rstrip() for one in sorted(jobs, key=_name)[:SHOWN]]
        lines += [f"    and {len(jobs) - SHOWN} more"] if len(jobs) > SHOWN else []
    if waiting:
        rules = ", ".join(f"{rule} {count}" for rule, count in waiting.items())
        lines += [
            "",
            f"Not begun because of {'it' if failed == 1 else 'them'}: {_count(sum(waiting.values()), 'job')} ({rules}).",
        ]
    return "\n".join([*lines, "", "What does not depend on them was done; the next run goes on from here."])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _name(failure: Failure) -> str:
    return failure.name
