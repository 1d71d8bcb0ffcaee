"""Docstrings tell; one that only points to the protocol says what its reader knows already."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def docstrings():
    for path in sorted([*ROOT.glob("pmqbench/**/*.py"), *ROOT.glob("scripts/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield path.relative_to(ROOT), getattr(node, "lineno", 1), ast.get_docstring(node) or ""


def test_no_docstring_only_points_elsewhere():
    found = list(docstrings())
    assert len(found) > 500
    assert [entry for entry in found if re.match(r"(See|As in|Like) `?[\w.]+`?[.;:]", entry[2])] == []
