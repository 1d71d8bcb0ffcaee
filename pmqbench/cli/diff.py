"""`pmqbench diff`: whether two runs made the same."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pmqbench.cli import arguments


def add_to(commands: Any) -> None:
    """Adds the command to an argparse parser's."""
    parser = arguments.add_command(
        commands,
        "diff",
        help="whether two runs made the same, file by file",
        description="Compare two results folders file by file: the same bytes, the same values but for times, the same by "
        "other code, or different, and then where and by how much. Ends with status 1 if a file differs. "
        "`make reproduce` runs a suite twice and does this.",
        examples="pmqbench diff results /elsewhere/results",
    )
    parser.add_argument("first", type=Path, metavar="A", help="a folder results/")
    parser.add_argument("second", type=Path, metavar="B", help="another run's")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Prints how the files compare."""
    from pmqbench.reproducibility.comparison import compare_folders
    from pmqbench.reproducibility.screen import print_comparison

    found = compare_folders(given.first, given.second)
    print_comparison(found)
    sys.exit(0 if all(one.same for one in found) else 1)
