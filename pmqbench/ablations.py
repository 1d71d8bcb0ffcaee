"""Ablations: questions of a config, each expanded into the recipes that answer it.

A question varies one thing (`vary` and `values`, or named `variants` of several options) of some quantizers under some merges.
Every merge, bit width and quantizer is a series; the points of a series differ in what is varied alone. Nothing here imports
torch: Snakemake reads this module while it parses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pmqbench.config_files import merged
from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.recipes import Ablation, MergeRecipe, Point, QuantRecipe

GRID = ("bits", "group_size")


@dataclass(frozen=True)
class Recipes:
    """The recipes that a target knows by name, and how a config becomes one.

    Attributes:
        merges, quantizers: configs by display name.
        merge: (name, config, where) -> recipe.
        quantizer: (name, config, bits, group_size, where) -> recipe.
    """

    merges: Mapping[str, Mapping[str, Any]]
    quantizers: Mapping[str, Mapping[str, Any]]
    merge: Callable[[str, Mapping[str, Any], str], MergeRecipe]
    quantizer: Callable[[str, Mapping[str, Any], int, int | str, str], QuantRecipe]


@dataclass(frozen=True)
class Series:
    """A line of a figure: its points differ in what is varied alone; `ablation` is the question's name."""

    ablation: str
    merge: str
    bits: int
    quantizer: str
    group_size: int | str


def expand(name: str, config: Mapping[str, Any], recipes: Recipes, where: str) -> Ablation:
    """One question's series.

    Args:
        name: of the question; the figure's file is called like it.
        config: checked against the schema's `ablation`, with its defaults.
        recipes: what the target knows.
        where: key path of the question.

    Raises:
        ConfigError: of recipes, and for a question that varies nothing or compares with what it does not have.
    """
    changes = variants(config, where)
    for key, known in (("merges", recipes.merges), ("quantizers", recipes.quantizers)):
        for index, item in enumerate(config[key]):
            _known(item, known, f"{where}.{key}.{index}")
    # One width, which the changes replace, where widths are what is varied.
    widths = config["bits"][:1] if any("bits" in change for change in changes.values()) else config["bits"]
    series = [Series(name, *key, config["group_size"]) for key in product(config["merges"], widths, config["quantizers"])]
    points = tuple(_point(item, label, change, recipes, where) for item in series for label, change in changes.items())
    _refuse_equal(points, where)
    baseline, against = _compared_with(config, changes, where)
    return Ablation(name, config["question"], config.get("vary"), tuple(changes), baseline, against, points)


def variants(config: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Label -> what it changes in the recipes, nested; "merge" holds what changes in the merge's.

    Raises:
        ConfigError: unless there are either `vary` and `values` or `variants`.
    """
    given = {key for key in ("vary", "values", "variants") if key in config}
    if given == {"variants"}:
        return {label: dict(change) for label, change in config["variants"].items()}
    if given != {"vary", "values"}:
        what = f"needs either vary and values, or variants, and has {' and '.join(sorted(given)) or 'none of them'}."
        raise ConfigError(what, where=where, remedy="Say what is varied.")
    return {label_of(value): nested(config["vary"].split("."), value) for value in config["values"]}


def label_of(value: Any) -> str:
    """A value as figures and names show it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    """{"a": {"b": value}} for the keys a, b."""
    return {keys[0]: nested(keys[1:], value) if keys[1:] else value}


def _point(series: Series, label: str, change: Mapping[str, Any], recipes: Recipes, where: str) -> Point:
    """What stands at one label of a series; a recipe that the change leaves as it is keeps its name."""
    own = {key: value for key, value in change.items() if key not in ("merge", *GRID)}
    grid = {key: change.get(key, getattr(series, key)) for key in GRID}
    quantizer, merge = recipes.quantizers[series.quantizer], recipes.merges[series.merge]
    suffix, at_merge = f"-{series.ablation}-{label}", f"{where}.{series.merge}"
    plain = recipes.quantizer(series.quantizer, quantizer, *grid.values(), where)
    varied = recipes.quantizer(series.quantizer + suffix, merged([quantizer, own]), *grid.values(), where)
    original = recipes.merge(series.merge, merge, at_merge)
    altered = recipes.merge(series.merge + suffix, merged([merge, change.get("merge", {})]), at_merge)
    return Point(
        panel=series.merge if "bits" in change else f"{series.merge} at {series.bits} bits",
        series=series.quantizer,
        label=label,
        merge=original if altered.id == original.id else altered,
        quantizer=plain if varied.path == plain.path else varied,
    )


def _compared_with(config: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> tuple[str | None, str | None]:
    """The label that a series is compared with itself at, or the series that the others are compared with."""
    if "against" in config:
        if "baseline" in config:
            raise ConfigError("both baseline and against are given.", where=where, remedy="Keep one of the two.")
        _known(config["against"], config["quantizers"], f"{where}.against")
        return None, config["against"]
    label = label_of(config.get("baseline", next(iter(changes))))
    _known(label, changes, f"{where}.baseline")
    return label, None


def _known(name: str, names: Mapping[str, Any] | Sequence[str], where: str) -> None:
    if name not in names:
        raise ConfigError(f'unknown name "{name}".', where=where, remedy=did_you_mean(name, names))


def _refuse_equal(points: Sequence[Point], where: str) -> None:
    """ConfigError for two labels of a series that are one recipe: what is varied has no effect there."""
    found: dict[tuple[str, ...], str] = {}
    for point in points:
        key = (point.panel, point.series, point.merge.id, point.quantizer.path)
        if key in found:
            what = f'"{found[key]}" and "{point.label}" are the same recipe of {point.series}.'
            raise ConfigError(what, where=where, remedy="Vary what changes it, or leave one of them out.")
        found[key] = point.label
