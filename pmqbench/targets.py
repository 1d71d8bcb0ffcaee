"""The targets of a suite: the sweeps and ablations of a checked config, expanded into recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from itertools import product
from typing import Any

from pmqbench.ablations import Recipes, expand
from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.files import check_name
from pmqbench.merging.base import MERGERS
from pmqbench.options import build_options
from pmqbench.quantization.base import QUANTIZERS, check_group_size
from pmqbench.recipes import Ablation, MergeRecipe, QuantRecipe, RefineRecipe, Suite, Target
from pmqbench.refinement.base import REFINERS

Pair = tuple[MergeRecipe, QuantRecipe]
MERGE_KEYS = ("method", "tune_scaling", "calibrate_singular_values")
QUANTIZER_KEYS = ("method", "tune", "refine", "merges")


class Targets:
    """Expands the targets of a config.

    Args:
        config: checked against the schema, with its defaults.
        suite: the suite, still without targets.
        family: its model family.
    """

    def __init__(self, config: Mapping[str, Any], suite: Suite, family: Any) -> None:
        self.config, self.suite, self.family = config, suite, family
        model = suite.base.model_config(family)
        self.shapes = family.linear_shapes(model) if model is not None else {}

    @cached_property
    def data(self) -> dict[str, Any]:
        """What calibration reads; ConfigError for a task without data."""
        return {
            "calibration_data": [{"task": task.name, "id": task.data_id} for task in self.suite.tasks],
            "batch_size": self.suite.calibration_batch,
        }

    @cached_property
    def validation(self) -> list[dict[str, Any]]:
        """What options are chosen by; ConfigError for a task without data."""
        return [self.suite.evaluation(task) for task in self.suite.tasks]

    @cached_property
    def merges(self) -> dict[str, MergeRecipe]:
        """Merges of the default target by name."""
        return self._merges(self.config["merges"], "merges")

    def default(self) -> list[Pair]:
        """Pairs of the default target."""
        return self._sweep({}, self.merges, self.config["quantizers"], "quantizers")

    def all(self) -> dict[str, Target]:
        """The default target and every named one, each with the default's recipes first."""
        merges, quantizers = self.merges, self.config["quantizers"]
        default = self.default()
        targets = {"default": Target(self.suite.name, tuple(default))}
        for name, extra in self.config["targets"].items():
            if name == "seeds":  # which adds nothing: `training_seeds.py`
                continue
            where = f"targets.{name}"
            _refuse_twice(merges, extra["merges"], f"{where}.merges")
            _refuse_twice(quantizers, extra["quantizers"], f"{where}.quantizers")
            known = merges | self._merges(extra["merges"], f"{where}.merges")
            recipes = quantizers | extra["quantizers"]
            pairs = list(default)
            for i, sweep in enumerate(extra.get("sweeps", ())):
                pairs += self._sweep(sweep, known, recipes, f"{where}.sweeps.{i}")
            ablations = self._ablations(extra, f"{where}.figures")
            pairs += [(point.merge, point.quantizer) for ablation in ablations for point in ablation.points]
            unique = {(merge.name, quantizer.name, quantizer.path): (merge, quantizer) for merge, quantizer in pairs}
            targets[name] = Target(f"{self.suite.name}@{name}", tuple(unique.values()), ablations)
        return targets

    def _ablations(self, target: Mapping[str, Any], where: str) -> tuple[Ablation, ...]:
        """A target's questions; merges and quantizers are the default target's and its own."""
        known = [self.config[key] | target[key] for key in ("merges", "quantizers")]
        recipes = Recipes(*known, self._merge, self._quantizer)
        figures = target.get("figures", {})
        return tuple(expand(check_name(name, where), figure, recipes, f"{where}.{name}") for name, figure in figures.items())

    def _sweep(
        self, sweep: Mapping[str, Any], merges: Mapping[str, MergeRecipe], quantizers: Mapping[str, Any], where: str
    ) -> list[Pair]:
        chosen = [named(merges, name, "merge", where) for name in sweep.get("merges", self.config["merges"])]
        names = sweep.get("quantizers", list(self.config["quantizers"]))
        for name in names:
            for merge in named(quantizers, name, "quantizer", where).get("merges", ()):
                named(merges, merge, "merge", f"quantizers.{name}.merges")
        recipes = {
            (name, recipe.path): recipe  # bits or groups that a recipe fixes come once, not once a sweep's value
            for name in names
            for bits in sweep.get("bits", self.config["bits"])
            for group in sweep.get("group_sizes", self.config["group_sizes"])
            for recipe in [self._quantizer(name, quantizers[name], bits, group, where)]
        }
        meant = "merges" in sweep and "quantizers" in sweep  # both are named: then whatever a recipe's own merges are
        return [
            (merge, recipe)
            for merge in chosen
            for recipe in recipes.values()
            if meant or merge.name in quantizers[recipe.name].get("merges", [merge.name])
        ]

    def _merges(self, configs: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, MergeRecipe]:
        return {name: self._merge(check_name(name, where), config, f"{where}.{name}") for name, config in configs.items()}

    def _merge(self, name: str, config: Mapping[str, Any], where: str) -> MergeRecipe:
        candidates = tuple(config.get("tune_scaling", ()))
        options = {key: value for key, value in config.items() if key not in MERGE_KEYS}
        calibrated = MERGERS.get(config["method"], where).calibrated
        if calibrated:
            options.setdefault("calibration_samples", self.config["calibration"]["samples"])
        method = build_options(MERGERS, config["method"], options, where)
        if candidates and not hasattr(method, "scaling"):
            what = f'"{config["method"]}" has no scaling to choose.'
            raise ConfigError(what, where=f"{where}.tune_scaling", remedy="Remove it.")
        if candidates and "scaling" in options:
            raise ConfigError("scaling is both given and tuned.", where=f"{where}.scaling", remedy="Keep one of the two.")
        for key in ("tune_scaling", "calibrate_singular_values"):
            if calibrated and key in config:
                what = f'"{config["method"]}" solves for its weights on samples, so this does not apply to it.'
                raise ConfigError(what, where=f"{where}.{key}", remedy="Remove it.")
        method.check([task.name for task in self.suite.tasks], where)
        suite = self.suite
        sources = {
            "family": suite.family,
            "base": suite.base_id,
            "experts": [{"task": task.name, "id": suite.expert_id(task)} for task in suite.tasks],
            **(self.data if calibrated else {}),
        }
        calibration = config.get("calibrate_singular_values")
        validation = self.validation if candidates else ()
        return MergeRecipe(name, config["method"], method, candidates, sources, validation, calibration)

    def _quantizer(self, name: str, config: Mapping[str, Any], bits: int, group: int | str, where: str) -> QuantRecipe:
        path = f"{where}.{check_name(name, where)}"
        own = {key: value for key, value in config.items() if key not in QUANTIZER_KEYS}
        options = {"bits": bits, "group_size": group, **own}
        options["group_size"] = None if options["group_size"] == "channel" else options["group_size"]
        if QUANTIZERS.get(config["method"], path).calibrated:
            options.setdefault("calibration_samples", self.config["calibration"]["samples"])
        method = build_options(QUANTIZERS, config["method"], options, path)
        method.check(path)
        if method.group_size:
            check_group_size(self.shapes, method.group_size, path)
        tune = {option: tuple(candidates) for option, candidates in config.get("tune", {}).items()}
        _check_tuned(config["method"], method, own, tune, f"{path}.tune")
        return QuantRecipe(
            name,
            config["method"],
            method,
            self.data if method.calibrated else {},
            tune,
            self.validation if tune else (),
            self._refinement(config["refine"], f"{path}.refine") if "refine" in config else None,
        )

    def _refinement(self, config: Mapping[str, Any], where: str) -> RefineRecipe:
        options = {key: value for key, value in config.items() if key != "method"}
        options.setdefault("calibration_samples", self.config["calibration"]["samples"])
        return RefineRecipe(config["method"], build_options(REFINERS, config["method"], options, where), self.data)


def _check_tuned(
    method_name: str, method: Any, given: Mapping[str, Any], tune: Mapping[str, Sequence[float]], where: str
) -> None:
    """ConfigError for an option to tune that is given too, is unknown or no number, or for a candidate it cannot take."""
    known = {field.name: getattr(method, field.name) for field in fields(method)}
    for option in tune:
        place = f"{where}.{option}"
        if option in given:
            raise ConfigError(f"{option} is both given and tuned.", where=place, remedy="Keep one of the two.")
        if option not in known:
            raise ConfigError(f'"{method_name}" has no option "{option}".', where=place, remedy=did_you_mean(option, known))
        if isinstance(known[option], bool | str | None) or option in ("bits", "group_size"):
            what = f"{option} is nothing to choose by accuracy." if option == "bits" else f"{option} is no number."
            raise ConfigError(what, where=place, remedy="Give it as an option, or make a recipe of each value.")
    for candidate in candidates_of(tune):
        options = {field.name: getattr(method, field.name) for field in fields(method)} | candidate
        build_options(QUANTIZERS, method_name, options, where)


def candidates_of(tune: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the options' candidates; [{}] where there is nothing to choose."""
    return [dict(zip(tune, values, strict=True)) for values in product(*tune.values())]


def named(recipes: Mapping[str, Any], name: str, kind: str, where: str) -> Any:
    """The recipe called `name`; ConfigError with a suggestion if there is none."""
    if name not in recipes:
        raise ConfigError(f'unknown {kind} "{name}".', where=where, remedy=did_you_mean(name, recipes))
    return recipes[name]


def _refuse_twice(first: Mapping[str, Any], second: Mapping[str, Any], where: str) -> None:
    for name in second:
        if name in first:
            what = f'"{name}" is a recipe of the default target already.'
            raise ConfigError(what, where=where, remedy="Give it another name.")
