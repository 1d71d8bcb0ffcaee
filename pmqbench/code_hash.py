"""Hash of the project code that a stage can reach: its step or script, the modules that its recipe names, and all they import.

Snakemake does not see edits of imported code, and takes a touched script for a changed one. So each rule puts this hash into
its `params`, and `profiles/default` leaves Snakemake's own trigger for scripts out. The hash is of syntax trees: comments,
docstrings and layout are no code. What a registry imports by name (a method, a family) is named by the caller: only a recipe
knows it. Of packages that declare methods (`plugins.py`) the modules that are reached count like our own.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

from pmqbench import plugins

ROOT = Path(__file__).parents[1]
PACKAGE = Path(__file__).parent.name

PLUMBING = {
    "devices": "says which of a machine's GPUs a job has, and no more",
    "costs": "tells of numbers and changes none",
    "errors": "classes and wording of messages",
    "files": "writes files whole or not at all; another hash in it names other folders, which shows by itself",
    "exhausted": "wording of messages",
    "heartbeat": "tells how far a loop is and changes no number",
    "integrity": "refuses damaged files and changes no number",
    "jobs": "log file, messages, manifests",
    "machine": "tells of memory and space and changes no number",
    "options": "checks configs; the options that come out stand in the artefact's id",
    "processes": "starts the processes of a job; what comes of their work together is in `distributed`",
    "plugins": "finds packages of others, whose modules the stage's own code names",
    "provenance": "tells of numbers and changes none",
    "registry": "finds a method's module, which the stage's own code names",
}
"""Modules that reach no number, with the reason; neither they nor what they alone import count as a stage's code."""


@cache
def code_hash(script: str, *modules: str, function: Callable[..., object] | None = None) -> str:
    """16 hex digits over the code that a stage can reach.

    Args:
        script: file of `scripts/` without its ending; the module of `pmqbench/steps/` that it runs counts in its place.
        modules: what the recipe chooses at run time, e.g. "pmqbench.merging.ties".
        function: of a module that the recipe chooses, of which the stage runs nothing else: it counts with what it imports.
    """
    digest = hashlib.sha256()
    for path in reached(script, *modules, function=function):
        digest.update(_named(path).as_posix().encode() + b"\0" + _digest(path))
    if function is not None:
        digest.update(_digest_tree(_tree_of(function)))
    return digest.hexdigest()[:16]


def reached(script: str, *modules: str, function: Callable[..., object] | None = None) -> list[Path]:
    """The files that count whole as the stage's code, sorted; ModuleNotFoundError for a module that does not exist."""
    begin = _sources(f"{PACKAGE}.steps.{script}") or [ROOT / "scripts" / f"{script}.py"]
    todo = [*begin, *(_imports_of(_tree_of(function)) if function is not None else [])]
    for module in modules:
        files = _sources(module)
        if not files:
            raise ModuleNotFoundError(f"no module {module} in {', '.join(map(str, _roots().values()))}")
        todo += files
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in seen and not _is_plumbing(path):
            seen.add(path)
            todo.extend(_imports(path))
    return sorted(seen)


def _roots() -> dict[str, Path]:
    """Package -> the folder it lies in: ours, and those of others that declare methods."""
    return {**plugins.roots(), PACKAGE: ROOT}


def _named(path: Path) -> Path:
    """A file's path as importing it spells it, whatever folder its package lies in."""
    return min((path.relative_to(root) for root in _roots().values() if path.is_relative_to(root)), key=lambda p: len(p.parts))


def _is_plumbing(path: Path) -> bool:
    return path.parent == ROOT / PACKAGE and path.stem in PLUMBING


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _tree_of(function: Callable[..., object]) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


@cache
def _digest(path: Path) -> bytes:
    return _digest_tree(_tree(path))


def _digest_tree(tree: ast.Module) -> bytes:
    """Of a syntax tree without docstrings: strings that stand alone do nothing."""
    return hashlib.sha256(ast.dump(_Undocumented().visit(tree)).encode()).digest()


class _Undocumented(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Drops an expression that is a string."""
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


@cache
def _imports(path: Path) -> list[Path]:
    return _imports_of(_tree(path), ".".join(_named(path).parent.parts))


def _imports_of(tree: ast.Module, package: str = "") -> list[Path]:
    """Files that the code imports, at any depth; `package` is what relative imports start from."""
    found: list[Path] = []
    for node in _walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        found += [source for name in names for source in _sources(name)]
    return found


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node` but the imports that only type checkers see: they run no code."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)


def _sources(module: str) -> list[Path]:
    """The file of a module of a package in `_roots`, with its packages' __init__ files; [] for anything else."""
    parts = module.split(".")
    root = _roots().get(parts[0])
    if root is None:
        return []
    file = root.joinpath(*parts).with_suffix(".py")
    inits = [root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in (*inits, file) if path.is_file()] if file.is_file() or inits[-1].is_file() else []
