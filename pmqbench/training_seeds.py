"""A suite once more for each training seed: base and experts trained anew, data, calibration seeds and recipes as they were.

`targets.seeds` of a config names training seeds and the part of the default target that is compared. Nothing here imports
torch: Snakemake reads this module while it parses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pmqbench.errors import ConfigError
from pmqbench.recipes import Suite, Target
from pmqbench.sources.base import is_trained, source_of
from pmqbench.targets import Pair, Targets, named

WHERE = "targets.seeds"
ROLES = ("base", "experts")


def suites_by_training_seed(config: Mapping[str, Any], suite: Suite, family: Any) -> dict[int, Suite]:
    """Training seed -> the suite with base and experts of that seed; {} for a config without `targets.seeds`.

    Args:
        config: checked against the schema, with its defaults.
        suite: the suite as it is.
        family: its model family.

    Returns:
        Suites whose one target, "default", has the named part of the suite's default target. The suite that has the config's
        own seed shares all its artefacts.

    Raises:
        ConfigError: nothing is trained here, a name or width is not the default target's, or the reference is left out.
    """
    if "seeds" not in config["targets"]:
        return {}
    wanted = config["targets"]["seeds"]
    seeded = [role for role in ROLES if is_trained(getattr(suite, role))]
    if not seeded:
        what = "neither base nor experts are trained here, so they have no training seed."
        raise ConfigError(what, where=WHERE, remedy='Remove it; source "mini" trains, others bring finished models.')
    chosen = _chosen(config, wanted)
    suites = {seed: _trained(config, suite, family, seed, seeded, chosen) for seed in wanted["training_seeds"]}
    _refuse_nothing_compared(next(iter(suites.values())))
    return suites


def _trained(
    config: Mapping[str, Any], suite: Suite, family: Any, seed: int, roles: Sequence[str], chosen: Mapping[str, Sequence[Any]]
) -> Suite:
    options = {role: {**config[role], "seed": seed} for role in roles}
    sources = {role: source_of(own, role) for role, own in options.items()}
    anew = replace(suite, **sources, sources={**suite.sources, **options}, targets={})
    pairs = tuple(pair for pair in Targets(config, anew, family).default() if _is_chosen(pair, chosen, config["quantizers"]))
    return replace(anew, targets={"default": Target(f"{suite.name}@seeds", pairs)})


def _chosen(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Merges, quantizers and bits to compare, those of the default target where none are named."""
    for key, kind in (("merges", "merge"), ("quantizers", "quantizer")):
        for index, name in enumerate(wanted.get(key, ())):
            named(config[key], name, kind, f"{WHERE}.{key}.{index}")
    for index, bits in enumerate(wanted.get("bits", ())):
        if bits not in config["bits"]:
            remedy = f"It has: {', '.join(map(str, config['bits']))}."
            raise ConfigError(f"the default target has no {bits} bits.", where=f"{WHERE}.bits.{index}", remedy=remedy)
    chosen = {key: wanted.get(key, list(config[key])) for key in ("merges", "quantizers", "bits")}
    reference = config.get("reference", next(iter(config["quantizers"])))
    if reference not in chosen["quantizers"]:
        what = f'"{reference}", which the others are compared with, is not among them.'
        raise ConfigError(what, where=f"{WHERE}.quantizers", remedy="Add it.")
    return chosen


def _refuse_nothing_compared(suite: Suite) -> None:
    """ConfigError unless a quantizer has merge, bits and groups in common with the reference."""
    grids: dict[bool, set[tuple[Any, ...]]] = {True: set(), False: set()}
    for merge, quantizer in suite.targets["default"].pairs:
        method = quantizer.method
        grids[quantizer.name == suite.reference].add((merge.name, method.bits, method.group_size))
    if not grids[True] & grids[False]:
        what = f'nothing is compared with "{suite.reference}".'
        raise ConfigError(what, where=f"{WHERE}.quantizers", remedy="Add a quantizer that shares bits and groups with it.")


def _is_chosen(pair: Pair, chosen: Mapping[str, Sequence[Any]], quantizers: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a pair of recipes is to be compared; a quantizer that fixes its own bits is, whatever the bits."""
    merge, quantizer = pair
    width = quantizer.method.bits in chosen["bits"] or "bits" in quantizers[quantizer.name]
    return merge.name in chosen["merges"] and quantizer.name in chosen["quantizers"] and width
