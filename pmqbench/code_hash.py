"""Hash of the project code behind a stage: the named modules and everything of this package they import, however deep.

Snakemake does not see edits of imported code. Each rule puts this hash into its `params`, so that an edit reruns the stages
that use the edited file and no others: a plotting edit reruns no merge, a new method's file reruns nothing that exists.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = Path(__file__).parent.name


def code_hash(*modules: str) -> str:
    """16 hex digits over the sources of `modules` ("pmqbench.merging.ties", ...) and their imports within the package."""
    seen: set[Path] = set()
    todo = [path for module in modules for path in _sources(module)]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo.extend(_imports(path))
    digest = hashlib.sha256()
    for path in sorted(seen):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Files of the package that the file at `path` imports, at any depth of its code."""
    found: list[Path] = []
    for node in _walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [source for name in names for source in _sources(name)]
    return tuple(found)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node` but the imports that only type checkers see: they run no code."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)


def _sources(module: str) -> list[Path]:
    """The file of a module of this package, with its packages' __init__ files; [] for anything else."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return []
    inits = [ROOT.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in (*inits, ROOT.joinpath(*parts).with_suffix(".py")) if path.is_file()]
