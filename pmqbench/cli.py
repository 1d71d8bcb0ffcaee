"""The command `pmqbench`: what is of use without running a suite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pmqbench.check import check
from pmqbench.errors import PMQError


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; ends with status 2 and a sentence if that cannot be done."""
    given = parser().parse_args(arguments)
    try:
        given.run(given)
    except PMQError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    top = argparse.ArgumentParser(prog="pmqbench", description="Post-merge quantization: tools beside the workflow.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    checking = commands.add_parser("check", help="check config files without running anything")
    checking.add_argument("configs", nargs="+", metavar="CONFIG", help="YAML files, later ones laid on top of earlier ones")
    checking.set_defaults(run=check_configs)
    comparing = commands.add_parser("compare", help="what changed between two leaderboards, by paired differences")
    comparing.add_argument("before", type=Path, metavar="A", help="folder of a report: results/suites/mini")
    comparing.add_argument("after", type=Path, metavar="B", help="folder of another report on the same tasks")
    comparing.set_defaults(run=compare)
    submitting = commands.add_parser("submit", help="write a row of a suite's leaderboard as a file to send in")
    submitting.add_argument("config", metavar="CONFIG", help="the suite's config file")
    submitting.add_argument("row", metavar="ROW", help="merge, merge/quantizer/bits or merge/quantizer/bits/group size")
    submitting.add_argument("--by", required=True, metavar="NAME", help="who sends it in")
    submitting.add_argument("--link", default="", metavar="URL", help="where more about it is to be found")
    submitting.add_argument("--target", default="all", help="target whose leaderboard has the row (default: %(default)s)")
    submitting.add_argument("--without-code", action="store_true", help="its methods will not be part of the project")
    submitting.set_defaults(run=submit)
    return top


def check_configs(given: argparse.Namespace) -> None:
    """Says that the configs can be used, if so."""
    check(given.configs)
    print(f"{', '.join(given.configs)}: can be used")


def compare(given: argparse.Namespace) -> None:
    """Prints what changed from one report to another."""
    from pmqbench.reporting.changes import changes, print_changes, read_records

    print_changes(changes(read_records(given.before), read_records(given.after)))


def submit(given: argparse.Namespace) -> None:
    """Writes an entry, and says what to do with it."""
    from pmqbench.config import load_checked
    from pmqbench.config_files import read_config
    from pmqbench.submissions.submit import submit as write_entry

    suite = load_checked(read_config(given.config), [given.config])
    path = write_entry(suite, given.target, given.row, given.by, given.link, with_code=not given.without_code)
    print(f"{path}: written and checked. `make leaderboard` shows it; to send it in, commit it and open a pull request.")


if __name__ == "__main__":
    main()
