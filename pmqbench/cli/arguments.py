"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from textwrap import fill, indent
from typing import Any

import yaml

MODEL_HELP = "a folder, a .safetensors file, or a repository of the Hugging Face hub, owner/name or owner/name@revision"
DATA_HELP = "YAML file whose key `tasks` describes tasks and their data (docs/bring-your-own.md); a suite's config will do"


def add_command(commands: Any, name: str, help: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Adds a command to a parser's; returns its own parser."""
    return commands.add_parser(
        name,
        help=help,
        description=fill(description, 79),
        epilog=f"examples:\n{indent(examples, '  ')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def option(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as YAML reads it."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f'"{text}" is not KEY=VALUE')
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f'the value of "{key}" is no YAML: {value}') from error


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def add_models(parser: argparse.ArgumentParser) -> None:
    """The base and its experts."""
    parser.add_argument("base", metavar="BASE", help=f"the pre-trained base: {MODEL_HELP}")
    parser.add_argument(
        "--experts",
        nargs="+",
        required=True,
        metavar="[TASK=]MODEL",
        help="the experts, fine-tuned from the base; TASK, the last part of the path by default, pairs an expert with its data",
    )


def add_data(parser: argparse.ArgumentParser, needed: str) -> Any:
    """The tasks' data; `needed` says what for. Returns the group of arguments."""
    group = parser.add_argument_group("data", needed)
    group.add_argument("--data", type=Path, metavar="FILE", help=DATA_HELP)
    group.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="which tasks of FILE, all by default; without FILE, tasks or lists of tasks that come with PMQ-Bench",
    )
    group.add_argument(
        "--batch-size", type=positive, default=64, metavar="N", help="examples per forward pass (default: %(default)s)"
    )
    return group


def add_samples(group: Any) -> None:
    """How many samples methods that see some take."""
    group.add_argument(
        "--samples", type=positive, default=256, metavar="N", help="calibration samples a task (default: %(default)s)"
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """Family and threads."""
    parser.add_argument("--family", metavar="NAME", help="model family; told by the config of the base if not given")
    parser.add_argument(
        "--threads", type=positive, default=os.cpu_count() or 1, metavar="N", help="CPU threads (default: all, %(default)s)"
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """The output folder."""
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; it must not exist, or be empty"
    )
