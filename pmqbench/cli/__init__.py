"""The command `pmqbench`: what is of use without running a suite, one file a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pmqbench import __version__
from pmqbench.cli import check, compare, diff, doctor, estimate, evaluate, merge, quantize, submit
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
    top = argparse.ArgumentParser(
        prog="pmqbench",
        description="Post-merge quantization: merge experts of one base model, quantize what comes out, evaluate it.",
        epilog="`pmqbench COMMAND --help` explains a command; docs/command-line.md has an example of each.",
    )
    top.add_argument("--version", action="version", version=f"pmqbench {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in (merge, quantize, evaluate, check, estimate, doctor, compare, diff, submit):
        command.add_to(commands)
    return top
