"""Pins everything a suite takes from the hub to the commit it is at now: a second config file with nothing but revisions.

python -m pmqbench.pin config/clip-vit-b32-ta8.yaml > pins.yaml
snakemake --cores 8 --configfile config/clip-vit-b32-ta8.yaml pins.yaml
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from pmqbench.config import load_suite, read_config
from pmqbench.errors import PMQError
from pmqbench.hub import Repo, explained, resolve
from pmqbench.repositories import repositories
from pmqbench.sources.each import EachItsOwn


def pins(config: Mapping[str, Any]) -> dict[str, Any]:
    """Revisions of base, experts and data sets of a config; sources that are not the hub's are left out.

    Raises:
        HubError: a repository that cannot be resolved, with the remedy.
    """
    suite = load_suite({**config, "strict": False})  # a strict suite is what is pinned here
    found = repositories(suite)
    pinned: dict[str, Any] = {}
    if found.base:
        pinned["base"] = {"revision": commit(found.base)}
    if found.experts:
        commits = {name: commit(repo) for name, repo in found.experts.items()}
        apart = isinstance(suite.experts, EachItsOwn)
        own = {"of": {name: {"revision": sha} for name, sha in commits.items()}}
        pinned["experts"] = own if apart else {"revisions": commits}
    if found.data:
        pinned["data_revisions"] = {name: commit(repo) for name, repo in found.data.items()}
    return pinned


def commit(repo: Repo) -> str:
    """The commit a repository's revision stands for now."""
    with explained(repo):
        return resolve(repo)


def main() -> None:
    """Prints the pins of a config file."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m pmqbench.pin CONFIG\n\n{__doc__}")
    logging.basicConfig(level=logging.ERROR)
    try:
        sys.stdout.write(yaml.safe_dump(pins(read_config(sys.argv[1])), sort_keys=False))
    except PMQError as error:
        sys.exit(f"nothing was pinned: {error}")


if __name__ == "__main__":
    main()
