"""`pmqbench estimate`: what a suite costs before it is run."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from pmqbench.cli import arguments
from pmqbench.config import load_checked
from pmqbench.config_files import merged, read_file

if TYPE_CHECKING:
    from rich.table import Table

    from pmqbench.workflow.estimate import Estimate, Row


def add_to(commands: Any) -> None:
    """Adds the command to an argparse parser's."""
    parser = arguments.add_command(
        commands,
        "estimate",
        help="what a suite costs before it is run: jobs, time, memory, disk, downloads",
        description="Estimate what a target of a suite takes, as if nothing of it were done yet. Nothing is run or downloaded.",
        examples="pmqbench estimate config/mini.yaml\npmqbench estimate config/clip-vit-l14-ta8.yaml --target full --cores 16",
    )
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="YAML files, later ones laid on top of earlier ones")
    parser.add_argument("--target", default="all", metavar="T", help="all, full, ablations, methods or seeds (default: all)")
    parser.add_argument(
        "--cores", type=arguments.positive, default=os.cpu_count() or 1, metavar="N", help="of a machine (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Prints the table and what it comes to."""
    from rich.console import Console

    from pmqbench.workflow.estimate import Estimate

    suite = load_checked(merged([read_file(path).value for path in given.configs]), given.configs)
    estimate = Estimate(suite, given.target, given.cores)
    console = Console(width=100, highlight=False)
    console.print(table(estimate))
    for line in summary(estimate):
        console.print(line, soft_wrap=True)


def table(estimate: Estimate) -> Table:
    """A row a rule, and their sum."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    found = Table(box=SIMPLE_HEAD, pad_edge=False)
    found.add_column("rule")
    names = ["jobs", "core time", *(["GPU time"] if estimate.devices else []), "longest job", "memory of a job", "written"]
    for name in names:
        found.add_column(name, justify="right")
    for row in estimate.rows:
        found.add_row(*cells(row, estimate.devices))
    found.add_section()
    found.add_row(*cells(estimate.total, estimate.devices))
    return found


def cells(row: Row, devices: bool) -> list[str]:
    """A row's values as text."""
    device = [time(row.device_hours) if row.device_hours else ""] if devices else []
    memory, disk = size(row.memory_mb), size(row.disk_mb)
    return [row.rule, f"{row.jobs:,}", time(row.core_hours), *device, time(row.longest), memory, disk]


def summary(estimate: Estimate) -> list[str]:
    """Sentences below the table."""
    total, cores = estimate.total, estimate.cores
    lines = [
        f"{estimate.suite.name}, target {estimate.target}: {total.jobs:,} jobs, {time(total.core_hours)} on one core"
        + (f", or {time(total.device_hours)} on one GPU" if estimate.devices else "")
        + f"; on {cores} cores at least {time(estimate.wall_hours)}, on any number at least {time(estimate.chain_hours)}.",
        f"Memory of a job up to {size(total.memory_mb)}, disk {size(total.disk_mb)}, "
        f"models from the hub {size(estimate.download_mb) if estimate.download_mb else 'none'}"
        + (f"; {estimate.data_sets} data sets come on top, of sizes that only the hub knows." if estimate.data_sets else "."),
    ]
    return lines + estimate.notes


def time(hours: float) -> str:
    """Hours as text of two or three digits."""
    if hours >= 10:
        return f"{hours:,.0f} h"
    if hours >= 1:
        return f"{hours:.1f} h"
    minutes = hours * 60
    return f"{minutes:.0f} min" if minutes >= 1 else f"{hours * 3600:.0f} s"


def size(megabytes: float) -> str:
    """MB or GB as text."""
    return f"{megabytes / 1000:,.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
