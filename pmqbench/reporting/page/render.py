"""Puts a page's data, styles and scripts into one file that needs no other: jinja2 escapes every text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pmqbench.files import write_text
from pmqbench.reporting import PAGE_ASSETS

TEMPLATE = "page.html.j2"
SCRIPTS = ("marks.js", "rows.js", "table.js", "tips.js", "pareto.js", "drawer.js", "page.js")


@cache
def environment() -> Environment:
    """Templates of `assets/`, in which all that is put in is escaped and nothing may be missing."""
    return Environment(loader=FileSystemLoader(PAGE_ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def render_page(contents: dict[str, Any]) -> str:
    """The page that shows what `contents.py` gathers."""
    page = environment().get_template(TEMPLATE)
    scripts = "\n".join(asset(name) for name in SCRIPTS)
    return page.render(contents=contents, data=embedded(contents), style=asset("page.css"), scripts=Markup(scripts))


def asset(name: str) -> Markup:
    """A file of ours, which goes into the page as it is."""
    return Markup((PAGE_ASSETS / name).read_text(encoding="utf-8"))


def embedded(contents: dict[str, Any]) -> Markup:
    """JSON in which no text ends the script element that holds it, or begins a comment there."""
    text = json.dumps(contents, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", r"\u003c"))


def write_page(path: str | Path, contents: dict[str, Any]) -> None:
    """Writes the page, whole or not at all."""
    write_text(path, render_page(contents))
