"""`pmqbench doctor`: what state a results folder is in, and the way out of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pmqbench.cli import arguments
from pmqbench.config import load_checked
from pmqbench.config_files import read_file
from pmqbench.errors import ConfigError, PMQError, ResourceError

if TYPE_CHECKING:
    from pmqbench.health.findings import Finding


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the command to an argparse parser's."""
    parser = arguments.add_command(
        commands,
        "doctor",
        help="explain the state of a results folder, and the way out of it",
        description="Look for locks, jobs that never ended, orphaned temporary files, and artefacts and records that are not "
        "what was written, and say what to do about each. Exit status 1 if something is wrong, else 0.",
        examples="pmqbench doctor\npmqbench doctor --quick --config config/mini.yaml\npmqbench doctor --remove",
    )
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), metavar="RESULTS", help="default: results")
    parser.add_argument("--quick", action="store_true", help="read no weights and no data: manifests and records alone")
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="suites (one each): which artefacts are theirs, and stale"
    )
    parser.add_argument("--remove", action="store_true", help="delete what is damaged, outdated or orphaned, and nothing else")
    parser.add_argument("--all", action="store_true", help="list all that was found")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Prints what was found, and removes it if that is wanted."""
    from pmqbench.health.runs import locks, snakemakes

    if not given.results.is_dir():
        remedy = "Give the results folder, or run where it lies."
        raise ConfigError("there is no such folder.", where=str(given.results), remedy=remedy)
    found = list(findings(given.results, given.quick, given.config))
    harmful = [finding for finding in found if finding.harmful]
    show(given.results, found, given.all, given.remove)
    if given.remove and (paths := [path for finding in harmful for path in finding.remove]):
        if locks(given.results) or snakemakes(given.results):
            what = "a run is at work on the results, or they are locked, so nothing was removed."
            raise ResourceError(what, where=str(given.results), remedy="Wait for the run, or unlock after one that was killed.")
        remove(paths)
        harmful = [finding for finding in harmful if not finding.remove]
    sys.exit(1 if harmful else 0)


def findings(results: Path, quick: bool, configs: Sequence[str]) -> Iterator[Finding]:
    """All that there is to say of a results folder."""
    from pmqbench.health.damage import damage_findings, record_findings, unknown_finding
    from pmqbench.health.leftovers import state_findings, temporary_findings
    from pmqbench.health.runs import incomplete_finding, lock_finding, snakemakes
    from pmqbench.health.space import space_finding
    from pmqbench.heartbeat import heartbeat, show_heartbeat

    show_heartbeat()
    with heartbeat():
        yield from lock_finding(results)
        yield from incomplete_finding(results)
        yield from temporary_findings(results, at_work=bool(snakemakes(results)))
        yield from damage_findings(results, quick)
        yield from unknown_finding(results)
        yield from record_findings(results)
        yield from space_finding(results)
        yield from state_findings(results)
        if configs:
            yield from of_suites(results, configs)


def of_suites(results: Path, configs: Sequence[str]) -> Iterator[Finding]:
    """What the suites of config files know of the results; a config that cannot be used is a finding too."""
    from pmqbench.health.findings import Finding
    from pmqbench.health.suites import suite_findings

    suites = []
    for path in configs:
        try:
            suites.append(load_checked(read_file(path).value, [path]))
        except PMQError as error:
            yield Finding("config", (str(error),), "Mend it, or what it names; a run would stop there too.")
    if len(suites) == len(configs):
        yield from suite_findings(results, suites)


def show(results: Path, found: Sequence[Finding], whole: bool, removing: bool = False) -> None:
    """Prints what is wrong first, then what is only to be known, each with the way out but for what is being removed."""
    from rich.console import Console

    from pmqbench.health.findings import shortened
    from pmqbench.health.space import gigabytes, largest
    from pmqbench.machine import disk

    console = Console(soft_wrap=True, highlight=False, markup=False)
    mount, free, size = disk(results)
    console.print(f"{results}: {gigabytes(results)} ({largest(results)}); {free:.1f} of {size:.1f} GB are free on {mount}")
    for finding in sorted(found, key=lambda one: not one.harmful):
        count = f" ({len(finding.things)})" if len(finding.things) > 1 else ""
        console.print(f"\n{finding.kind}{count}", style="bold red" if finding.harmful else "bold")
        for thing in shortened(finding.things, whole):
            console.print(f"  {thing}")
        if not (removing and finding.harmful and finding.remove):
            console.print(f"  -> {finding.way_out}", style="green")
    if not any(finding.harmful for finding in found):
        console.print("\nNothing is wrong.")


def remove(paths: Sequence[Path]) -> None:
    """Deletes files, and the folders that are empty then."""
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    print(f"\nRemoved {len(paths)} files; the next run makes again what it needs.")
