"""Which family a model belongs to, by its config file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from pmqbench.errors import ConfigError
from pmqbench.families.base import FAMILIES
from pmqbench.families.files import read_object


def family_of(names: Collection[str], bring: Callable[[str], Path], where: str) -> str:
    """The family of a folder or repository: the one that knows the config's `model_type`, else the one whose config it has.

    Args:
        names: of its files.
        bring: gives one of these on this machine.
        where: what messages call it.

    Raises:
        ConfigError: it has no config that a family reads, or one of another type.
    """
    families = {name: FAMILIES.get(name) for name in FAMILIES.names()}
    kinds = []
    for file in sorted({family.config_file for family in families.values() if family.model_types} & set(names)):
        kinds.append(read_object(bring(file)).get("model_type"))
        for name, family in families.items():
            if family.config_file == file and kinds[-1] in family.model_types:
                return name
    for name, family in families.items():
        if not family.model_types and family.config_file in names:
            return name
    what = f'no family reads model_type "{kinds[0]}".' if kinds else "there is no config file of any family."
    raise ConfigError(what, where=where, remedy=f"Families are {', '.join(families)}; --family names one.")
