"""Installs locked packages and says how far it is: python -m pmqbench.workflow.install requirements.lock .venv/install.log.

pip itself writes some lines a package, hundreds in all, and none while it unpacks them. The file has them. This runs before any
package is there, so with the standard library alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

PINNED = re.compile(r"^[\w.-]+(?:\[[^\]]*\])?==", re.MULTILINE)
NAME = r"([\w.]+(?:-[A-Za-z][\w.]*)*)"
TAKEN = re.compile(rf"(?:Collecting |Ignoring |Requirement already satisfied: |Processing \S*/){NAME}")
UNPACKING = "Installing collected packages"
EVERY = 25  # packages between two lines where there is no terminal
LAST_LINES = 20  # of the log, if pip fails


def progress(lines: Iterable[str], total: int) -> Iterator[tuple[int, str]]:
    """What pip's lines say: how many packages were fetched, and what to tell of it."""
    taken = 0
    for line in lines:
        if found := TAKEN.match(line):
            taken += 1
            yield taken, f"{taken}/{total} packages: {found[1]}"
        elif line.startswith(UNPACKING):
            yield total, f"{total}/{total} packages are here, unpacking takes a minute or more"


def install(command: Sequence[str], total: int, log: Path) -> int:
    """Runs pip and shows its progress, in a terminal on one line.

    Args:
        command: pip's.
        total: number of packages.
        log: where all that pip says is written.

    Returns:
        pip's exit status; if that is not 0, the end of the log has been shown.
    """
    terminal = sys.stdout.isatty()
    with (
        open(log, "w", encoding="utf-8") as whole,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip,
    ):
        for taken, said in progress(written(pip.stdout, whole), total):
            if terminal:
                print(f"\r\x1b[K{said}", end="", flush=True)
            elif taken % EVERY == 0 or taken == total:
                print(said, flush=True)
    if terminal:
        print()
    if pip.returncode:
        lines = log.read_text(encoding="utf-8").splitlines()
        print(*lines[-LAST_LINES:], f"pip failed; all that it said: {log}", sep="\n", file=sys.stderr)
    return pip.returncode


def written(lines: Iterable[str], file: TextIO) -> Iterator[str]:
    """The lines, each once it is in the file."""
    for line in lines:
        file.write(line)
        yield line


if __name__ == "__main__":
    lock, log = map(Path, sys.argv[1:])
    pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes", "-r", str(lock))
    sys.exit(install(pip, len(PINNED.findall(lock.read_text(encoding="utf-8"))), log))
