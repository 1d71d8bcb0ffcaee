"""Ways for a process to fail, of a module that all processes can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pmqbench.distributed import World
from pmqbench.errors import NumericalError


def job(processes: int, **plan: Any) -> SimpleNamespace:
    """A job of two threads."""
    return SimpleNamespace(
        params=SimpleNamespace(plan={"processes": processes, **plan}, code=""), output=[], threads=2, resources={}
    )


def fail(job: Any, world: World) -> None:
    """The second process fails in some way, while the others wait for it; or all wait for each other."""
    how = job.params.plan["how"]
    if how == "wait":
        Path(job.params.plan["folder"], str(world.rank)).write_text(str(os.getpid()))
        time.sleep(600 if world.is_main else 0)
    elif world.rank == 1:
        if how == "error":
            raise NumericalError("the inputs hold NaN.", where="task b", remedy="Check them.")
        if how == "silent":
            time.sleep(600)
        if how == "bug":
            raise ZeroDivisionError("nothing to divide by")
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "unnoticed":
        time.sleep(600)
    world.broadcast(None, 1)
