"""Methods in packages of other people: which entry points installed packages declare, and where these packages are.

A package declares a method in the group that is called like our package of such methods. Nothing here imports a package that
declares one: Snakemake asks while it parses.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata, util
from pathlib import Path

GROUPS = ("pmqbench.merging", "pmqbench.quantization", "pmqbench.refinement")


@cache
def declared() -> tuple[metadata.EntryPoint, ...]:
    """The entry points of GROUPS in all installed packages."""
    installed = metadata.entry_points()
    return tuple(point for group in GROUPS for point in installed.select(group=group))


def package_of(point: metadata.EntryPoint) -> str:
    """The distribution that declares an entry point, as `pip` calls it, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module


@cache
def roots() -> dict[str, Path]:
    """Top-level package or module of every declared method -> the folder that it lies in."""
    found = {}
    for top in dict.fromkeys(point.module.partition(".")[0] for point in declared()):
        spec = util.find_spec(top)
        if spec is None:  # uninstalled by hand; whoever asks for the method is told
            continue
        places = spec.submodule_search_locations or [spec.origin]
        found[top] = Path(next(iter(places))).resolve().parent
    return found
