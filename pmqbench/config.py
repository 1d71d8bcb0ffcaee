"""From config files to a checked `Suite`: everything that can be wrong with a config is found here, before any work starts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pmqbench.config_files import located, merged, read_config, read_file, typed
from pmqbench.errors import ConfigError, PMQError, did_you_mean
from pmqbench.evaluation.base import PROTOCOLS
from pmqbench.families.base import FAMILIES
from pmqbench.files import check_name, with_whole_numbers
from pmqbench.options import check_plain, check_schema
from pmqbench.recipes import Suite
from pmqbench.reporting.columns import COLUMNS
from pmqbench.reporting.published import load_published
from pmqbench.repositories import refuse_unpinned
from pmqbench.sources.base import source_of
from pmqbench.targets import Targets, named
from pmqbench.tasks.definitions import Task, load_tasks, with_revisions
from pmqbench.tasks.kinds.base import check_kinds
from pmqbench.training_seeds import suites_by_training_seed

SCHEMA = Path(__file__).with_name("schema.yaml")
RECIPES = Path(__file__).with_name("shared_recipes")
RESERVED = dict.fromkeys(COLUMNS, "a column of leaderboards") | dict.fromkeys(("base", "data"), "an input of models")
"""Names that no task may have, as a column or a checksum would stand under it twice."""


def load_checked(config: Mapping[str, Any], paths: Sequence[str | Path]) -> Suite:
    """The suite of a config as Snakemake merged it.

    Args:
        config: what Snakemake made of its config files and its command line.
        paths: the config files, in Snakemake's order.

    Raises:
        PMQError: as `read_file` and `load_suite`, with file and line, or "--config on the command line", before the key path.
    """
    files = [read_file(path) for path in paths]
    config = typed(config, merged([file.value for file in files]))
    try:
        return load_suite(config)
    except PMQError as error:
        shared = [read_file(path) for path in RECIPES.glob("*.yaml") if path.stem == config.get("recipes")]
        raise located(error, config, [*shared, *files]) from None


def load_suite(config: Mapping[str, Any]) -> Suite:
    """The suite a config describes; ConfigError names key path, what is wrong and what to do."""
    check_plain(config)
    schema = read_config(SCHEMA)
    config = with_whole_numbers(with_recipes(config))
    check_schema(config, schema, "")
    config = with_defaults(config, schema, schema)
    family = FAMILIES.get(config["family"], "family")()
    tasks = with_revisions(load_tasks(config["tasks"]), config["data_revisions"], "data_revisions")
    _refuse_reserved(tasks)
    check_kinds(tasks, PROTOCOLS.get(family.protocol).task_class, config["family"])
    base, experts = (source_of(config[key], key) for key in ("base", "experts"))
    base.check([""], family, "base")
    experts.check([task.name for task in tasks], family, "experts")
    suite = Suite(
        name=check_name(config["suite"], "suite"),
        family=config["family"],
        protocol=family.protocol,
        base=base,
        experts=experts,
        tasks=tasks,
        seeds=tuple(config["seeds"]),
        targets={},
        evaluation_batch=config["evaluation"]["batch_size"],
        calibration_batch=config["calibration"]["batch_size"],
        processes=_processes(config["processes"], tasks),
        batch_jobs=config["batch_jobs"],
        job_threads=config["job_threads"],
        job_gpus=config["job_gpus"],
        reference=_reference(config),
        strict=_strict(config),
        sources={key: config[key] for key in ("base", "experts")},
    )
    if suite.strict:
        refuse_unpinned(suite)
    suite = replace(suite, targets=Targets(config, suite, family).all())
    return replace(suite, by_training_seed=suites_by_training_seed(config, suite, family))


def _refuse_reserved(tasks: Sequence[Task]) -> None:
    for place, task in enumerate(tasks):
        if task.name in RESERVED:
            what = f'no task can be called "{task.name}", which is {RESERVED[task.name]}.'
            raise ConfigError(what, where=f"tasks.{place}", remedy="Give it another name.")


def with_recipes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config on top of the file of `pmqbench/shared_recipes/` that its key `recipes` names; the key itself goes."""
    own = {key: value for key, value in config.items() if key != "recipes"}
    if "recipes" not in config:
        return own
    known = {path.stem: path for path in RECIPES.glob("*.yaml")}
    name = str(config["recipes"])
    if name not in known:
        raise ConfigError(
            f"there is no pmqbench/shared_recipes/{name}.yaml.", where="recipes", remedy=did_you_mean(name, known)
        )
    shared = read_config(known[name])
    return _without_nulls(merged([shared, own]), shared)


def _without_nulls(value: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """`value` without the keys of `shared`, at any depth, that are null."""
    return {
        key: _without_nulls(item, shared[key]) if isinstance(item, Mapping) and isinstance(shared.get(key), Mapping) else item
        for key, item in value.items()
        if item is not None or key not in shared
    }


def with_defaults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """A copy of `value` with the schema's defaults filled in at any depth."""
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rsplit("/", 1)[1]], **schema}
    if isinstance(value, Mapping):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
        filled = {key: copy.deepcopy(part["default"]) for key, part in properties.items() if "default" in part} | dict(value)
        return {key: with_defaults(item, properties.get(key, others), root) for key, item in filled.items()}
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {}), root) for item in value]
    return copy.deepcopy(value)


def _reference(config: Mapping[str, Any]) -> str:
    """The quantizer that reports compare the others with: the named one, else the first."""
    quantizers = config["quantizers"]
    name = config.get("reference", next(iter(quantizers)))
    named(quantizers, name, "quantizer", "reference")
    return name


def _processes(asked: int, tasks: Sequence[Task]) -> int:
    """Processes of a job, each of which has a task or more."""
    if asked > len(tasks):
        what = f"{asked} processes cannot share {len(tasks)} tasks."
        raise ConfigError(what, where="processes", remedy=f"Give {len(tasks)} at most.")
    return asked


def _strict(config: Mapping[str, Any]) -> bool:
    """Whether the gate stops the suite; ConfigError where no published numbers could ever close it."""
    if config["strict"] and load_published(config["suite"]) is None:
        what = f'there are no published numbers of suite "{config["suite"]}" to be strict about.'
        raise ConfigError(what, where="strict", remedy="Remove it, or see docs/reporting.md for how to add them.")
    return config["strict"]
