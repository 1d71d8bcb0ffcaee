"""Checks of config values against JSON schemas, with messages that say where, what and what to do.

One mechanism serves the suite's structure (`pmqbench/schema.yaml`) and every method's options (`Registry.schema`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, relevance
from jsonschema.validators import extend

from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.registry import Registry

T = TypeVar("T")

TYPES = {
    "array": "a list",
    "object": "a mapping of keys to values",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}
SHOWN = 60  # characters of a wrong value that messages show
LARGEST = 2**53
"""Largest whole number anywhere: the largest that every JSON reader takes."""
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but tab and line ends, and halves of characters: no file or path takes them all."""

_TYPES = Draft202012Validator.TYPE_CHECKER.redefine("array", lambda _, value: isinstance(value, list | tuple))
Validator = extend(Draft202012Validator, type_checker=_TYPES)  # a built method's options have tuples for lists


def check_schema(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError for the most telling violation of `schema`; `where` is the key path of `value`."""
    errors = list(Validator(dict(schema)).iter_errors(value))
    if errors:
        raise _explain(_nearest(errors), where)


def check_plain(value: Any, where: str = "") -> None:
    """Raises ConfigError for what JSON cannot hold, at any depth: YAML also has dates, .nan and keys that are numbers."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif isinstance(value, str) and UNPRINTABLE.search(value):
        raise ConfigError(f"{show(value)} holds a character that no text has.", where=where, remedy="Remove it.")
    elif isinstance(value, int | float) and not abs(value) <= LARGEST:  # which NaN is not either
        raise ConfigError(f"{show(value)} is no number that can be used.", where=where, remedy="Give a smaller one.")
    elif not isinstance(value, str | int | float | None):
        what = f"{show(value)} is a {type(value).__name__}."
        raise ConfigError(what, where=where, remedy="Write it in quotes if it is meant as a text.")
    for key, item in items:
        place = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping) and not (isinstance(key, str) and key.isprintable()):
            what = f"must be a text (in quotes), not {show(key)}." if not isinstance(key, str) else "is no name in one line."
            raise ConfigError(what, where=place, remedy="Keys are names.")
        check_plain(item, place)


def build_options(registry: Registry[T], name: str, options: Mapping[str, Any], where: str) -> T:
    """The method `name` with `options`, checked; ConfigError says which key is wrong and what would be right."""
    check_schema(dict(options), registry.schema(name, where), where)
    return registry.get(name)(**options)


def _nearest(errors: Sequence[ValidationError]) -> ValidationError:
    """The most telling error; of a choice of forms the error in the one form that the value has, if it has one."""
    error = max(errors, key=relevance)
    if error.validator != "anyOf":
        return error
    kind = ("type", "const", "enum")
    wrong = {inner.schema_path[0] for inner in error.context if not inner.relative_path and inner.validator in kind}
    inside = [inner for inner in error.context if inner.schema_path[0] not in wrong]
    return _nearest(inside) if len({inner.schema_path[0] for inner in inside}) == 1 else error


def _explain(error: ValidationError, where: str) -> ConfigError:
    keys = [where] if where else []
    path = ".".join([*keys, *map(str, error.absolute_path)])
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = next(str(key) for key in error.instance if key not in known)
        place = f"{path}.{unknown}" if path else unknown
        return ConfigError(f'unknown key "{unknown}".', where=place, remedy=did_you_mean(unknown, known))
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        described = error.schema.get("properties", {}).get(missing, {})
        return ConfigError(f'key "{missing}" is missing.', where=path, remedy=described.get("description", "Add it."))
    if "propertyNames" in error.absolute_schema_path:
        path = f"{path}.{error.instance}"
    return ConfigError(f"{_wrong(error)}.", where=path, remedy=_meaning(error.schema))


def _wrong(error: ValidationError) -> str:
    """What is wrong with a value, with the value."""
    value, limit, given = error.instance, error.validator_value, show(error.instance)
    match error.validator:
        case "pattern":
            return f"{given} does not fit" if _meaning(error.schema) else f"{given} does not have the form {limit}"
        case "uniqueItems":
            return f"{show(next(item for index, item in enumerate(value) if item in value[:index]))} stands twice"
        case "minItems" | "minProperties" | "minLength" if limit == 1:
            return "must not be empty"
        case "minItems" | "maxItems":
            return f"must have at {'least' if error.validator == 'minItems' else 'most'} {limit} entries, not {len(value)}"
        case bound if bound in BOUNDS:
            return f"must be {BOUNDS[bound].format(limit)}, not {given}"
        case "type" | "enum" | "const" | "anyOf":
            return f"must be {expected(error.schema, value)}, not {given}"
    return error.message


def expected(schema: Mapping[str, Any], given: Any) -> str:
    """What values a schema takes, in words; for a list with an example, the wrong value itself if that would do."""
    if "anyOf" in schema:
        return " or ".join(expected(part, given) for part in schema["anyOf"])
    if "const" in schema:
        return show(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(map(show, schema['enum']))}"
    kinds = schema.get("type", [])
    words = [_kind(kind, schema, given) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return " or ".join(words) or "something else"


def show(value: Any) -> str:
    """A value as it is written in a config, shortened."""
    if value is None:
        return "empty (null)"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def _kind(kind: str, schema: Mapping[str, Any], given: Any) -> str:
    bounds = [text.format(schema[bound]) for bound, text in BOUNDS.items() if bound in schema]
    words = f"{TYPES[kind]} of {' and '.join(bounds)}" if bounds else TYPES[kind]
    if kind == "string" and isinstance(given, int | float):
        return f"{words} (in quotes)"
    if kind == "array":
        examples = ([given], schema.get("default"), schema.get("items", {}).get("enum", [])[:1])
        fitting = [example for example in examples if example and Draft202012Validator(schema).is_valid(example)]
        return f"{words}, e.g. {show(fitting[0])}" if fitting else words
    return words


def _meaning(schema: Any) -> str:
    description = schema.get("description", "") if isinstance(schema, Mapping) else ""
    return f"It is: {description}" if description else ""
