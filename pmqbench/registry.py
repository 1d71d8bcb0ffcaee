"""Registries of methods: a method is a frozen dataclass of its options, in a file of its own that nothing else names.

A method called "ties" stands in `ties.py` of the registry's package and is imported when it is asked for, so a new file is
found without touching another one. Other packages declare methods of theirs as entry points (`plugins.py`). The options' JSON
schema is derived from the dataclass (pydantic), so a wrong option is reported like any other wrong config key. Method modules
better not import torch at the top: the ones a config uses are imported while Snakemake parses, before any work starts.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib.metadata import EntryPoint
from typing import Any, Generic, TypeVar

from pmqbench.errors import ConfigError, did_you_mean
from pmqbench.plugins import declared, package_of

T = TypeVar("T")


class Registry(Generic[T]):
    """Named dataclasses of one kind ("merging method", ...), one a module of `package` or one an entry point of `group`."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self.group = package.removesuffix(".methods")
        self._classes: dict[str, type[T]] = {}
        self._schemas: dict[type[T], dict[str, Any]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that makes the class known as `name` in configs."""

        def add(cls: type[T]) -> type[T]:
            if name in self._classes and self._classes[name].__module__ != cls.__module__:
                raise ValueError(f'{self.kind} "{name}" is registered by {self._classes[name].__module__} already')
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """All registered names, sorted; imports every module of the package, and no package of others."""
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return sorted({*self._classes, *(point.name for point in self._declared())})

    def get(self, name: str, where: str = "") -> type[T]:
        """The class registered as `name`.

        Raises:
            ConfigError: there is none (with a suggestion), there are several, or a package declares what it has not.
        """
        points = [point for point in self._declared() if point.name == name]
        if name not in self._classes or points:
            self._find(name, points, where)
        if name not in self._classes:
            raise ConfigError(f'unknown {self.kind} "{name}".', where=where, remedy=did_you_mean(name, self.names()))
        return self._classes[name]

    def _declared(self) -> list[EntryPoint]:
        return [point for point in declared() if point.group == self.group]

    def _find(self, name: str, points: list[EntryPoint], where: str) -> None:
        """Imports the one module that has `name`: ours, or the one that an entry point names."""
        module = f"{self.package}.{name}"
        own = name.isidentifier() and importlib.util.find_spec(module) is not None
        owners = [*(["pmqbench itself"] if own else []), *map(package_of, points)]
        if len(owners) > 1:
            what = f'{self.kind} "{name}" is declared by {" and by ".join(owners)}.'
            raise ConfigError(what, where=where, remedy=f"Rename the entry point of {owners[-1]}, or uninstall it.")
        if own:
            importlib.import_module(module)
        elif points:
            self._classes[name] = self._load(points[0], where)

    def _load(self, point: EntryPoint, where: str) -> type[T]:
        """The class that an entry point names."""
        what = f'{self.kind} "{point.name}": {package_of(point)} declares {point.value}'
        try:
            found = point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{what}, which cannot be imported: {error}.", where=where, remedy="Install it again.") from error
        if not (isinstance(found, type) and is_dataclass(found) and point.name.isidentifier()):
            remedy = "Name a dataclass as package.module:Class, and the entry point like a Python name."
            raise ConfigError(f"{what}, which is no method.", where=where, remedy=remedy)
        if found.__module__.partition(".")[0] != point.module.partition(".")[0]:  # edits there would not make artefacts stale
            what = f"{what}, which is defined in another package, {found.__module__}."
            raise ConfigError(what, where=where, remedy="Declare it in the package that defines it.")
        return found

    def name_of(self, cls: type[T]) -> str:
        """The name that a registered class goes by in configs."""
        return next(name for name, known in self._classes.items() if known is cls)

    def schema(self, name: str, where: str = "") -> dict[str, Any]:
        """JSON schema of the options of `name`: types, ranges, defaults; unknown keys are refused."""
        from pydantic import TypeAdapter

        cls = self.get(name, where)
        if cls not in self._schemas:  # some milliseconds each, and a suite asks for hundreds
            self._schemas[cls] = {**TypeAdapter(cls).json_schema(), "additionalProperties": False}
        return self._schemas[cls]
