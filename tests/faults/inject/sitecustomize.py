"""Python imports this at every start where this folder is on PYTHONPATH: a disturbance in the middle of a job's work.

The product knows nothing of it: a file that is about to get its final name, or is being copied, is an event that Python itself
reports (sys.addaudithook). At the wanted one the file is cut in half, as a write in progress is, and the disturbance happens,
once.

PMQ_TEST_FAULT is JSON: `script` (which job), `event` (at which of its files, counted from 1; 0 is before its work), `action`
(below), `marker` (a file that says that it happened), `clock` (how many times faster the job's clock goes).
"""

import json
import os
import signal
import sys
import threading
import time

EVENTS = {"os.rename": 1, "shutil.copyfile": 1}  # where the target is among an event's arguments


def suite() -> int:
    """Snakemake's process id: the harness starts it as the leader of a group."""
    return os.getpgid(0)


def send(number: int, target: int) -> None:
    """Sends a signal to a process or, negative, a group; whoever gets it has time to act before this job goes on."""
    os.kill(target, number)
    time.sleep(2)


def orphaned(marker: str) -> None:
    """Kills Snakemake alone; this job lives on, and goes on when the harness says so."""
    os.kill(suite(), signal.SIGKILL)
    while not os.path.exists(f"{marker}.go-on"):
        time.sleep(0.05)


def fill_the_disk(marker: str) -> None:
    """Fills the file system of the results, and what becomes free on it as long as this job runs."""
    ballast = os.open("results/ballast", os.O_WRONLY | os.O_CREAT)

    def fill(size: int) -> None:
        try:
            while True:
                os.write(ballast, bytes(size))
        except OSError:
            pass

    def keep_full() -> None:
        while True:
            fill(4096)
            time.sleep(0.02)

    fill(1 << 20)
    fill(4096)
    threading.Thread(target=keep_full, daemon=True).start()


def out_of_memory(marker: str) -> None:
    raise MemoryError


def pause(marker: str) -> None:
    """Waits until the harness says so, or something ends this job."""
    while not os.path.exists(f"{marker}.go-on"):
        time.sleep(0.05)


def take_memory(marker: str) -> None:
    """Takes more and more memory until something ends this job."""
    taken = []
    while len(taken) < 100:
        taken.append(bytearray(os.urandom(1 << 20)) * 100)
        time.sleep(0.2)


def move_to_group(marker: str) -> None:
    """Moves this process into a control group that the harness has made."""
    with open(os.path.join(os.environ["PMQ_TEST_GROUP"], "tasks"), "w") as file:
        file.write("0")


ACTIONS = {
    "move to group": move_to_group,
    "kill job": lambda marker: os.kill(os.getpid(), signal.SIGKILL),
    "kill all": lambda marker: os.killpg(0, signal.SIGKILL),
    "kill Snakemake": orphaned,
    "fill the disk": fill_the_disk,
    "out of memory": out_of_memory,
    "pause": pause,
    "take memory": take_memory,
    "SIGINT to Snakemake": lambda marker: send(signal.SIGINT, suite()),
    "SIGTERM to Snakemake": lambda marker: send(signal.SIGTERM, suite()),
    "SIGINT to all": lambda marker: send(signal.SIGINT, -suite()),
    "SIGTERM to all": lambda marker: send(signal.SIGTERM, -suite()),
    "SIGHUP to all": lambda marker: send(signal.SIGHUP, -suite()),
    "SIGSTOP to all": lambda marker: os.killpg(0, signal.SIGSTOP),
}


def happen(marker: str, action: str, half_written: str | None = None) -> None:
    """Does it, once, be there two such jobs at a time; and before it cuts a file that a kill is to find half written."""
    try:
        with open(marker, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return
    if half_written is not None:
        os.truncate(half_written, os.path.getsize(half_written) // 2)
    ACTIONS[action](marker)


def disturb(script: str, event: int, action: str, marker: str, clock: float = 1) -> None:
    """Arms the disturbance in this process, if it is the job's."""
    if not any(argument.endswith(f".{script}.py") for argument in sys.orig_argv):
        return
    real = time.perf_counter
    if clock != 1:
        time.perf_counter = lambda: clock * real()
    seen = 0

    def hook(name: str, arguments: tuple) -> None:
        nonlocal seen
        place = EVENTS.get(name)
        if place is None or "/results/" not in os.path.abspath(os.fspath(arguments[place])):
            return
        seen += 1
        if seen != event:
            return
        kill = name == "os.rename" and action in ("kill job", "kill all") and not os.path.islink(arguments[0])
        happen(marker, action, arguments[0] if kill else None)

    if event == 0:  # before any work
        happen(marker, action)
    else:
        sys.addaudithook(hook)


if "PMQ_TEST_FAULT" in os.environ:
    disturb(**json.loads(os.environ["PMQ_TEST_FAULT"]))
