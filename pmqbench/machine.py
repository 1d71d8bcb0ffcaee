"""What a job takes of its machine, and what the machine has: memory, kills for memory, space on disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

CGROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")
STATM = Path("/proc/self/statm")
VMSTAT = Path("/proc/vmstat")


def memory_gb() -> float:
    """Resident memory of this process in GB (10^9 bytes); 0 where the system does not tell."""
    if not STATM.is_file():
        return 0.0
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


def kills_for_memory() -> int | None:
    """How many processes the kernel has killed for memory where this one runs; None where the system does not tell.

    Counted are those of the process's own control group, or of the whole machine where it has none.
    """
    for line in CGROUPS.read_text().splitlines() if CGROUPS.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            folder = MOUNT / controllers
            name = "memory.oom_control" if controllers else "memory.events"
            # In a container the group's path is that of the host, and its own files are at the mount point.
            for place in (folder / group.lstrip("/") / name, folder / name):
                if (counted := _counter(place)) is not None:
                    return counted
    return _counter(VMSTAT)


def _counter(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def disk(path: str | Path) -> tuple[Path, float, float]:
    """The mount point of the file system that a path is or would be on, and its free and whole space in GB (10^9 bytes)."""
    place = Path(os.path.abspath(path))
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    mount = place.resolve()
    while not os.path.ismount(mount):
        mount = mount.parent
    return mount, usage.free / 1e9, usage.total / 1e9
