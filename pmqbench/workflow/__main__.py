"""Prints the folder of a target's report, for the Makefile: python -m pmqbench.workflow config/mini.yaml full."""

from __future__ import annotations

import sys

from pmqbench.config import load_checked
from pmqbench.config_files import read_config
from pmqbench.errors import PMQError
from pmqbench.workflow.layout import Layout
from pmqbench.workflow.reports import Reports


def main(config: str, target: str) -> None:
    """Prints the folder; exits with a sentence for a config that cannot be used or a target that the suite lacks."""
    try:
        reports = Reports(Layout(load_checked(read_config(config), [config])))
        sys.stdout.write(reports.folder(target) + "\n")
    except PMQError as error:
        sys.exit(f"error in the config: {error}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python -m pmqbench.workflow CONFIG TARGET\n\n{__doc__}")
    main(*sys.argv[1:])
