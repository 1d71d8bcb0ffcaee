"""`pmqbench check`: a suite's config, without running anything."""

from __future__ import annotations

import argparse
from typing import Any

from pmqbench.check import check
from pmqbench.cli import arguments


def add_to(commands: Any) -> None:
    """Adds the command to an argparse parser's."""
    parser = arguments.add_command(
        commands,
        "check",
        help="check a suite's config files without running anything",
        description="Check a suite's config. A mistake is answered by file and line, with what was probably meant.",
        examples="pmqbench check config/mini.yaml",
    )
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="YAML files, later ones laid on top of earlier ones")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Says that the configs can be used, if so."""
    check(given.configs)
    print(f"{', '.join(given.configs)}: can be used")
