"""`pmqbench compare`: what changed from one leaderboard to another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pmqbench.cli import arguments


def add_to(commands: Any) -> None:
    """Adds the command to an argparse parser's."""
    parser = arguments.add_command(
        commands,
        "compare",
        help="what changed between two leaderboards, by paired tests",
        description="Compare two reports on the same tasks and data, model by model: averages before and after, the paired "
        "difference with its 95 % interval, and p after Holm's correction over all models that differ.",
        examples="pmqbench compare before/results/suites/mini results/suites/mini",
    )
    parser.add_argument("before", type=Path, metavar="A", help="folder of a report: results/suites/<suite>")
    parser.add_argument("after", type=Path, metavar="B", help="folder of another report on the same tasks")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Prints what changed."""
    from pmqbench.reporting.changes import changes, print_changes, read_records

    print_changes(changes(read_records(given.before), read_records(given.after)))
