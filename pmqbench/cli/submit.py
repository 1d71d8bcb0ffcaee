"""`pmqbench submit`: a row of a leaderboard as a file to send in."""

from __future__ import annotations

import argparse
from typing import Any

from pmqbench.cli import arguments


def add_to(commands: Any) -> None:
    """Adds the command to an argparse parser's."""
    parser = arguments.add_command(
        commands,
        "submit",
        help="write a row of a suite's leaderboard as a file to send in",
        description="Read and check the records of a row, of base and of experts, and write one file into leaderboard/entries/,"
        " or nothing and the reason. Run it in the folder that has results/; docs/submitting.md says what is checked.",
        examples='pmqbench submit config/mini.yaml wudi/gptq/4 --by "Ada Lovelace" --link https://example.org/paper',
    )
    parser.add_argument("config", metavar="CONFIG", help="the suite's config file")
    parser.add_argument("row", metavar="ROW", help="merge, merge/quantizer/bits or merge/quantizer/bits/group size")
    parser.add_argument("--by", required=True, metavar="NAME", help="who sends it in")
    parser.add_argument("--link", default="", metavar="URL", help="where more about it is to be found")
    parser.add_argument("--target", default="all", help="target whose leaderboard has the row (default: %(default)s)")
    parser.add_argument("--without-code", action="store_true", help="its methods will not be part of the project")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Writes an entry, and says what to do with it."""
    from pmqbench.config import load_checked
    from pmqbench.config_files import read_config
    from pmqbench.submissions.submit import submit as write_entry

    suite = load_checked(read_config(given.config), [given.config])
    path = write_entry(suite, given.target, given.row, given.by, given.link, with_code=not given.without_code)
    print(f"{path}: written and checked. `make leaderboard` shows it; to send it in, commit it and open a pull request.")
