"""Checks config files before Snakemake reads them, and answers by file and line: its own reader knows neither.

python -m pmqbench.check config/mine.yaml [more.yaml ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pmqbench.config import load_checked
from pmqbench.config_files import merged, read_file
from pmqbench.errors import PMQError


def check(paths: Sequence[str]) -> None:
    """Raises the error if the files, laid on top of each other, are no usable config."""
    load_checked(merged([read_file(path).value for path in paths]), paths)


def main() -> None:
    """Ends with status 2 and the error if the files are no usable config."""
    paths = sys.argv[1:]
    if not paths:
        sys.exit(f"usage: python -m pmqbench.check CONFIG...\n\n{__doc__}")
    try:
        check(paths)
    except PMQError as error:
        sys.stderr.write(f"error in the config: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
