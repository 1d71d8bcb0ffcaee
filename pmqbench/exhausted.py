"""What libraries raise when memory or disk run out or may not be written, in words that say what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from pmqbench.errors import ResourceError
from pmqbench.machine import disk, memory_gb

NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|[Cc]annot allocate memory|bad_alloc")
NO_GPU_MEMORY = re.compile(r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED")
NO_SPACE = re.compile(
    r"No space left on device|database or disk is full|Disk quota exceeded|PytorchStreamWriter failed writing"
)
READ_ONLY = re.compile(r"Read-only file system")
FEWER = "Run fewer jobs side by side (`--cores`), or smaller batches (`evaluation_batch`, `calibration_batch`)"


def explained(error: BaseException, asked_mb: int | None = None) -> ResourceError | None:
    """The error of a machine that has not what a job needs; None for any other error.

    Args:
        error: what was raised, by whichever library; what it was raised from counts too.
        asked_mb: the memory that the job asked its scheduler for, in MB, if it did.
    """
    found = (_explained(one, asked_mb) for one in _chain(error))
    return next((known for known in found if known), None)


def _explained(error: BaseException, asked_mb: int | None) -> ResourceError | None:
    number, text = getattr(error, "errno", None), str(error)
    if NO_GPU_MEMORY.search(text) and not isinstance(error, OSError):
        first = text.splitlines()[0]
        remedy = "Make the batches smaller (`evaluation_batch`, `calibration_batch`), or let one job at a time use the device."
        return ResourceError(f"the device's memory is full ({first}).", remedy=remedy)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or NO_MEMORY.search(text):
        asked = f", {asked_mb / 1e3:.1f} GB were asked for" if asked_mb else ""
        return ResourceError(f"the memory is full ({memory_gb():.1f} GB are in use{asked}).", remedy=more_memory())
    where = str(getattr(error, "filename", None) or "")
    if number in (errno.ENOSPC, errno.EDQUOT) or NO_SPACE.search(text):
        mount, free, whole = disk(where or Path.cwd())
        remedy = "Free some and run again (`pmqbench doctor` says what takes it); what was finished is kept."
        what = f"no space left on {mount}: {free:.2f} of {whole:.1f} GB are free, or a quota is used up."
        return ResourceError(what, where=where, remedy=remedy)
    if number == errno.EROFS or READ_ONLY.search(text):
        remedy = "Run where results/ can be written: `--directory` names another folder."
        return ResourceError(f"the file system {disk(where or Path.cwd())[0]} is read-only.", where=where, remedy=remedy)
    if number in (errno.EACCES, errno.EPERM) and where:
        remedy = "Make it yours (`ls -ld` says whose it is), or run in another folder."
        return ResourceError("this user may not read or write it.", where=where, remedy=remedy)
    return None


def more_memory(rule: str = "RULE", asked_mb: int | None = None) -> str:
    """What to do where memory ran out."""
    return f"{FEWER}, or give the job more memory (`--set-resources {rule}:mem_mb={2 * asked_mb if asked_mb else 'N'}`)."


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, or while another one was handled; not what its author left out (`from None`)."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
