"""`pmqbench check`: a config checked before Snakemake reads it, and answered by file and line: its own reader knows neither."""

from __future__ import annotations

import argparse
from typing import Any

from pmqbench.cli import arguments
from pmqbench.config import load_checked
from pmqbench.config_files import merged, read_file


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
    """Says that the configs, laid on top of each other, can be used, if so."""
    load_checked(merged([read_file(path).value for path in given.configs]), given.configs)
    print(f"{', '.join(given.configs)}: can be used")
