"""Checks of config values against JSON schemas, with messages that say where, what and what to do.

One mechanism serves the suite's structure (`config/schema.yaml`) and every method's options (`Registry.schema`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.registry import Registry

T = TypeVar("T")


def check_schema(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError for the most telling violation of `schema`; `where` is the key path of `value`."""
    error = best_match(Draft202012Validator(dict(schema)).iter_errors(value))
    if error is not None:
        raise _explain(error, where)


def build_options(registry: Registry[T], name: str, options: Mapping[str, Any], where: str) -> T:
    """The method `name` with `options`, checked; ConfigError says which key is wrong and what would be right."""
    check_schema(dict(options), registry.schema(name, where), where)
    return registry.get(name)(**options)


def _explain(error: ValidationError, where: str) -> ConfigError:
    path = ".".join([where, *map(str, error.absolute_path)]) if where else ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = [key for key in error.instance if key not in known]
        return ConfigError(f'unknown key "{unknown[0]}".', where=path, remedy=did_you_mean(str(unknown[0]), known))
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return ConfigError(f'key "{missing[0]}" is missing.', where=path, remedy=_described(error, missing[0]))
    return ConfigError(f"{error.message}.", where=path, remedy=_meaning(error.schema))


def _described(error: ValidationError, key: str) -> str:
    return str(error.schema.get("properties", {}).get(key, {}).get("description", ""))


def _meaning(schema: Any) -> str:
    description = schema.get("description", "") if isinstance(schema, Mapping) else ""
    return f"It is: {description}" if description else ""
