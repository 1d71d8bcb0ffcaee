"""Registries of methods: a method is a frozen dataclass of its options, in a file of its own that nothing else names.

A method called "ties" stands in `ties.py` of the registry's package and is imported when it is asked for, so a new file is
found without touching another one. The options' JSON schema is derived from the dataclass (pydantic), so a wrong option is
reported like any other wrong config key. Method modules better not import torch at the top: the ones a config uses are
imported while Snakemake parses, before any work starts.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pmqbench.errors import ConfigError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Named dataclasses of one kind ("merging method", ...), one a module of `package`."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
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
        """All registered names, sorted; imports every module of the package."""
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return sorted(self._classes)

    def get(self, name: str, where: str = "") -> type[T]:
        """The class registered as `name`; ConfigError with a suggestion if there is none."""
        if name not in self._classes and name.isidentifier():
            module = f"{self.package}.{name}"
            if importlib.util.find_spec(module) is not None:
                importlib.import_module(module)
        if name not in self._classes:
            raise ConfigError(f'unknown {self.kind} "{name}".', where=where, remedy=did_you_mean(name, self.names()))
        return self._classes[name]

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
