"""Runs a job's work in several processes of one machine, the job itself being the first.

The others are started beside it. Each has its share of the job's threads and, where there are GPUs, one of the job's. They find
each other by a file in a temporary folder, and talk over the loopback interface (gloo) and between GPUs (NCCL).

None outlives the others. A process ends when the first one is gone, whatever ended it, since its input closes then. Where
another one fails, the first one fails with its message: its connection breaks, or else, where it waits for a GPU that never
answers, a thread ends it.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from pmqbench import errors
from pmqbench.devices import VISIBLE, take_devices, visible
from pmqbench.distributed import ALONE, World
from pmqbench.errors import PMQError
from pmqbench.exhausted import explained, more_memory
from pmqbench.files import read_json, write_json
from pmqbench.jobs import show_warnings

log = logging.getLogger(__name__)

Work = Callable[[Any, World], None]

WAIT = timedelta(hours=1)
"""How long a process waits for another one that is alive: the first one writes and tunes alone."""
START = 300.0
"""Seconds until all must have imported what they run."""
GRACE = 10.0
"""Seconds that a process has to notice that another one failed, and to end when all are done."""
POLL = 0.05
DEATH = 2.0
"""Seconds between the break of a connection and the exit status of the process that died."""


MESSAGE, DIED, TRACEBACK = range(3)
"""What a process that failed leaves, what tells most first."""


class ProcessError(PMQError):
    """One of a job's processes died, or failed without a message for users."""


def run_spread(work: Work, job: Any) -> None:
    """Runs `work(job, world)` in as many processes as the job's plan asks for; `job` is cut down to what all can have.

    Args:
        work: a function of a module. It writes in the first process alone.
        job: with a plan of JSON values that has "processes".

    Raises:
        ConfigError: the job sees some GPUs, but fewer than processes.
        PMQError: as `work`, in whichever process; ProcessError where one died or left nothing but a traceback.
    """
    size = job.params.plan["processes"]
    if size == 1:
        return work(job, ALONE)
    share = {
        "plan": job.params.plan,
        "code": job.params.code,
        "output": list(map(str, job.output)),
        "threads": max(1, job.threads // size),
    }
    devices = _devices(size) if job.resources.get("gpu", 1) else []
    share["gpu"] = int(bool(devices))
    with TemporaryDirectory(prefix="pmqbench-") as folder:
        write_json(Path(folder, "request.json"), {"work": [work.__module__, work.__name__], "share": share, "size": size})
        team = _Team(Path(folder), [_start(Path(folder), rank, devices) for rank in range(1, size)])
        if devices:
            os.environ[VISIBLE] = devices[0]
        return team.lead(work, _job(share))


def _devices(size: int) -> list[str]:
    """As many GPUs as processes, which are the job's from now on; [] on a machine without."""
    import torch

    count = torch.cuda.device_count()
    return take_devices(size, visible(count)) if count else []


def _start(folder: Path, rank: int, devices: list[str]) -> subprocess.Popen:
    """A process that runs `main` with this one's packages, beside it; it sees its own GPU alone."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    if devices:
        environment[VISIBLE] = devices[rank]
    command = [sys.executable, "-P", "-m", "pmqbench.processes", str(folder), str(rank)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)


def _job(share: dict[str, Any]) -> SimpleNamespace:
    params = SimpleNamespace(plan=share["plan"], code=share["code"])
    return SimpleNamespace(params=params, output=share["output"], threads=share["threads"], resources={"gpu": share["gpu"]})


def _join(world: World, folder: Path, gpus: bool) -> None:
    """Connects the processes, all of which must have started."""
    import torch.distributed as dist

    loopback = "lo0" if sys.platform == "darwin" else "lo"
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", loopback)
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    store = dist.FileStore(str(folder / "meeting"), world.size)
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=WAIT)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


@dataclass
class _Team:
    """The other processes, as the first one sees them.

    Attributes:
        folder: with what they are to do, and what became of them.
        processes: from rank 1 on.
        over: set once nobody need watch them any more.
    """

    folder: Path
    processes: list[subprocess.Popen]
    over: threading.Event = field(default_factory=threading.Event)

    def lead(self, work: Work, job: Any) -> None:
        """Does the first one's part; errors are those of `run_spread`."""
        world = World(0, len(self.processes) + 1)
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            self._await_start()
            _join(world, self.folder, bool(job.resources["gpu"]))
            work(job, world)
        except PMQError:
            raise
        except Exception as error:
            failure = self.failure(DEATH) or _given_up(error)
            if failure is None:
                raise
            raise failure from error
        else:
            self._await_end()
        finally:
            self.over.set()
            for process in self.processes:
                process.kill()
                with process:  # closes its input, and waits
                    pass
            _leave()

    def failure(self, seconds: float) -> PMQError | None:
        """Why the others failed; None if none has within so many seconds.

        When one fails, the connections of the others break too: what tells more goes first, and is waited for.
        """
        until = time.monotonic() + seconds
        while True:
            found = [self._cause(rank) for rank in self._ranks if self._failed(rank)]
            (tells, _), failure = min(found, key=lambda cause: cause[0], default=((TRACEBACK, 0.0), None))
            if tells < TRACEBACK or time.monotonic() >= until:
                return failure
            time.sleep(POLL)

    @property
    def _ranks(self) -> range:
        return range(1, len(self.processes) + 1)

    def _failed(self, rank: int) -> bool:
        return _report(self.folder, rank).exists() or self.processes[rank - 1].poll() not in (None, 0)

    def _cause(self, rank: int) -> tuple[tuple[int, float], PMQError]:
        """Of a process that failed: how much it tells and when, least first, and the error."""
        where, report = f"process {rank + 1} of {len(self.processes) + 1}", _report(self.folder, rank)
        if not report.exists():
            status = self.processes[rank - 1].returncode
            how = f"died with {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            remedy = f"If memory ran out: {more_memory()}" if status == -signal.SIGKILL else ""
            return (DIED, 0.0), ProcessError(f"it {how}.", where=where, remedy=remedy)
        told = read_json(report)
        if "traceback" in told:
            return (TRACEBACK, report.stat().st_mtime), ProcessError(f"unexpected error:\n{told['traceback']}", where=where)
        kind = getattr(errors, told["kind"], PMQError)
        return (MESSAGE, 0.0), kind(told["what"], where=told["where"], remedy=told["remedy"])

    def _await_start(self) -> None:
        """Until all others have imported what they run."""
        until = time.monotonic() + START
        while not all((self.folder / f"ready-{rank}").exists() for rank in self._ranks):
            if (failure := self.failure(0)) is not None:
                raise failure
            if time.monotonic() > until:
                what = f"not all of {len(self.processes) + 1} processes have started within {START:.0f} s."
                raise ProcessError(what, where="processes", remedy="Is the machine busy, or Python's folder slow to read?")
            time.sleep(POLL)

    def _await_end(self) -> None:
        """Lets them end by themselves, now that all is done."""
        self.over.set()
        until = time.monotonic() + GRACE
        while any(process.poll() is None for process in self.processes) and time.monotonic() < until:
            time.sleep(POLL)

    def _watch(self) -> None:
        """Ends this process where another one failed and this one does not notice."""
        while not self.over.wait(POLL):
            if any(map(self._failed, self._ranks)) and not self.over.wait(GRACE):
                failure = self.failure(0)  # the main thread may be in a library's call, which no exception reaches
                log.error("%s", failure)
                sys.stderr.write(f"error: {failure}\n")
                logging.shutdown()
                shutil.rmtree(self.folder, ignore_errors=True)
                os._exit(1)


def _given_up(error: Exception) -> ProcessError | None:
    """What gloo's error is called where another process is alive and silent; None for other errors."""
    if "Timed out waiting" not in str(error):
        return None
    what = f"another process has not answered for {WAIT}."
    return ProcessError(what, where="processes", remedy="Run again; if it happens again, set `processes: 1`.")


def _report(folder: Path, rank: int) -> Path:
    """What a process that failed leaves; it is there before its connections break."""
    return folder / f"failed-{rank}.json"


def main() -> None:
    """A process beside the first one: its part of the work, and a report if it fails."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the first one gets it too, and ends this one
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    show_warnings(aloud=False)
    request = read_json(folder / "request.json")
    try:
        module, name = request["work"]
        work = getattr(import_module(module), name)
        (folder / f"ready-{rank}").touch()
        world = World(rank, request["size"])
        _join(world, folder, bool(request["share"]["gpu"]))
        work(_job(request["share"]), world)
    except PMQError as error:
        write_json(_report(folder, rank), _told(error))
        os._exit(1)
    except Exception as error:
        known = explained(error)
        write_json(_report(folder, rank), _told(known) if known else {"traceback": traceback.format_exc()})
        os._exit(1)
    _leave()


def _told(error: PMQError) -> dict[str, str]:
    return {"kind": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}


def _end_with_the_first() -> None:
    """Nothing is ever written to this process's input: it ends when the first process does."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
