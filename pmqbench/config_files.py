"""Config files as they are written: what they say, in which line, and which of several files a value comes from.

Snakemake reads and merges the files itself and knows neither; here they are read once more to answer errors by file and line.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pmqbench.errors import ConfigError, PMQError
from pmqbench.options import show

Keys = tuple[Any, ...]

COMMAND_LINE = "--config on the command line"
DEEPEST = 40
"""Levels of a config file; the deepest shipped one has 8."""
MOST_PARTS = 100_000
"""Keys and values of a config file with every alias written out; the largest shipped one has some hundreds."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a mapping with the same key twice, which YAML would silently resolve to the last one.

    Values that their tag does not fit, for which SafeLoader has errors of many kinds, are refused with their line.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError) as error:
            what = f"{show(node.value)} is no value of the type {node.tag.rsplit(':', 1)[-1]}."
            where = f"{node.start_mark.name}, line {node.start_mark.line + 1}"
            raise ConfigError(what, where=where, remedy="Write a text in quotes, a number in digits.") from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ConfigError(
                    f'key "{key.value}" stands twice.',
                    where=f"{key.start_mark.name}, lines {lines[key.value]} and {line}",
                    remedy="Names must be unique: rename or remove one.",
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class ConfigFile:
    """A config file that parses.

    Attributes:
        name: its path, relative to the working folder if it is below it.
        value: its content.
        node: the same as YAML's syntax tree, which knows lines; None for an empty file.
    """

    name: str
    value: dict[str, Any]
    node: yaml.Node | None

    def place(self, keys: Keys) -> str:
        """File and line of the value that `keys` lead to."""
        node, line = self.node, 1
        for key in keys:
            line, node = _child(node, key)
        return f"{self.name}, line {line}" if keys else self.name


def read_file(path: str | Path) -> ConfigFile:
    """Reads a config file.

    Raises:
        ConfigError: no such file, no UTF-8, no YAML, no mapping, or a key that stands twice; with the line where there is one.
    """
    path = Path(path)
    name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("there is no such config file.", where=name, remedy="Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error}).", where=name, remedy="A config file is UTF-8 text.") from error
    try:
        loader = _UniqueKeyLoader(text)
        loader.name = name
        node = loader.get_single_node()
        if node is not None:
            _measure(node, {}, ())
        value = {} if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _not_yaml(error, name, text) from error
    except RecursionError:
        raise _too_deep(name) from None
    if not isinstance(value, dict):
        what = "the file must hold keys and values."
        raise ConfigError(what, where=f"{name}, line {node.start_mark.line + 1}", remedy="Begin with `suite: <name>`.")
    return ConfigFile(name, value, node)


def read_config(path: str | Path) -> dict[str, Any]:
    """A config file as a dict; errors as `read_file`."""
    return read_file(path).value


def merged(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Configs on top of each other as Snakemake lays them: mappings merge, anything else is replaced by the later one's."""
    result: dict[str, Any] = {}
    for config in configs:
        result = _on_top(result, config)
    return result


def typed(config: Any, written: Any) -> Any:
    """`config` with the texts that are not in the files (`written`, their content `merged`) read as YAML reads them.

    Snakemake leaves everything inside a list or a mapping on its command line as text: `--config bits=[2]` gives ["2"].
    """
    if isinstance(config, Mapping) and isinstance(written, Mapping):
        return {key: typed(value, written.get(key)) for key, value in config.items()}
    return config if config == written else _resolved(config)


def located(error: PMQError, config: Mapping[str, Any], files: Sequence[ConfigFile]) -> PMQError:
    """The error with the file and line of its key path: of several files, the last one of those that have most of the path.

    Args:
        error: its `where` is a key path of `config`, or some other place.
        config: files and command line together, as Snakemake merges them.
        files: in Snakemake's order; a file of shared recipes before all.
    """
    found = [(longest_path(file.value, error.where), file) for file in files]
    most = max((len(keys) for keys, _ in found), default=0)
    keys = longest_path(config, error.where)
    written = merged([file.value for file in files])
    if keys and len(keys) >= most and value_at(config, keys) != value_at(written, keys):
        place = COMMAND_LINE
    elif most:
        place = [file.place(keys) for keys, file in found if len(keys) == most][-1]
    else:
        place = " and ".join(file.name for file in files)
    return type(error)(error.what, where=": ".join(part for part in (place, error.where) if part), remedy=error.remedy)


def longest_path(value: Any, where: str) -> Keys:
    """The longest path of keys of `value` that the dotted key path `where` begins with; keys may hold dots themselves."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    paths = [(key, *longest_path(item, where[len(str(key)) + 1 :])) for key, item in items if f"{where}.".startswith(f"{key}.")]
    return max(paths, key=lambda path: len(".".join(map(str, path))), default=())


def value_at(value: Any, keys: Keys) -> Any:
    """What `keys` lead to, None where they lead nowhere."""
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        else:
            value = value[key] if isinstance(value, list) and isinstance(key, int) and key < len(value) else None
    return value


def _on_top(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _on_top(below[key], value)
        for key, value in above.items()
        if isinstance(below.get(key), Mapping) and isinstance(value, Mapping)
    }
    return {**below, **above, **both}


def _resolved(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    if not isinstance(value, str):
        return value
    loader = yaml.SafeLoader("")
    return loader.construct_object(yaml.ScalarNode(loader.resolve(yaml.ScalarNode, value, (True, False)), value))


def _child(node: yaml.Node, key: Any) -> tuple[int, yaml.Node]:
    """(line, node) of an item of a sequence or mapping."""
    if isinstance(node, yaml.SequenceNode):
        return node.value[key].start_mark.line + 1, node.value[key]
    for key_node, item in node.value:
        if isinstance(key_node, yaml.ScalarNode) and key_node.value == str(key):
            return key_node.start_mark.line + 1, item
    return node.start_mark.line + 1, node  # brought in by YAML's merge key


def _measure(node: yaml.Node, known: dict[yaml.Node, int], above: tuple[yaml.Node, ...]) -> int:
    """How many parts a node has with its aliases written out; ConfigError for one that is too deep, too large or endless."""
    place = f"{node.start_mark.name}, line {node.start_mark.line + 1}"
    if node in above:
        raise ConfigError("an alias (*) stands inside what it names.", where=place, remedy="Write the value out.")
    if len(above) > DEEPEST:
        raise _too_deep(place)
    if node not in known:
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        parts = [] if isinstance(node, yaml.ScalarNode) else inner
        known[node] = 1 + sum(_measure(part, known, (*above, node)) for part in parts)
    if known[node] > MOST_PARTS:
        what = f"its aliases (*) stand for more than {MOST_PARTS} keys and values."
        raise ConfigError(what, where=place, remedy="Write the values out.")
    return known[node]


def _too_deep(where: str) -> ConfigError:
    return ConfigError(f"is nested deeper than {DEEPEST} levels.", where=where, remedy="No config needs that: close a bracket.")


def _not_yaml(error: yaml.YAMLError, name: str, text: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    remedy = "Check this line and the one before it."
    if mark is None:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        return ConfigError("not valid YAML: a character that no text has.", where=f"{name}, line {line}", remedy=remedy)
    begun = getattr(error, "context_mark", None)
    context = f"{error.context} that begins in line {begun.line + 1}, " if error.context and begun else ""
    return ConfigError(
        f"not valid YAML: {context}{error.problem}.",
        where=f"{name}, line {mark.line + 1}, column {mark.column + 1}",
        remedy=remedy,
    )
