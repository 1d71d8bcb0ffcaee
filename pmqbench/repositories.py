"""Which repositories of the hub a suite takes models and data from, and which of them are not pinned to a commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmqbench.errors import ConfigError
from pmqbench.hub import Repo
from pmqbench.sources.each import EachItsOwn
from pmqbench.sources.hub import HubModels
from pmqbench.tasks.sources.hub import HubData

if TYPE_CHECKING:
    from pmqbench.recipes import Suite

SHOWN = 6  # repositories that an error names


@dataclass(frozen=True)
class Repositories:
    """What a suite takes from the hub: base or None, experts and data sets by task."""

    base: Repo | None
    experts: Mapping[str, Repo]
    data: Mapping[str, Repo]


def repositories(suite: Suite) -> Repositories:
    """The suite's repositories at the revisions that its config gives; sources that are not the hub's are left out."""
    sources = {task.name: task.data_source() for task in suite.tasks}
    experts = {
        name: suite.experts.sources[name] if isinstance(suite.experts, EachItsOwn) else suite.experts for name in sources
    }
    return Repositories(
        base=suite.base.repository("") if isinstance(suite.base, HubModels) else None,
        experts={name: source.repository(name) for name, source in experts.items() if isinstance(source, HubModels)},
        data={
            name: Repo(source.id, "dataset", source.revision) for name, source in sources.items() if isinstance(source, HubData)
        },
    )


def unpinned(suite: Suite) -> list[str]:
    """The repositories whose revision is no commit, each once, as messages name them; their numbers may change with the hub."""
    found = repositories(suite)
    every = [*([found.base] if found.base else []), *found.experts.values(), *found.data.values()]
    return list(dict.fromkeys(str(repo) for repo in every if not repo.pinned))


def refuse_unpinned(suite: Suite) -> None:
    """Raises ConfigError for a suite with unpinned repositories: what a strict suite compares must not change."""
    names = unpinned(suite)
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ConfigError(
            f"a strict suite takes everything from fixed commits, but not pinned are {', '.join(names[:SHOWN])}{more}.",
            where="strict",
            remedy="`python -m pmqbench.pin CONFIG > pins.yaml` writes the commits; give pins.yaml as a second config file.",
        )
