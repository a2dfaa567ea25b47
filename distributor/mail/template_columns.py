"""Finds the further roster columns that templates name. Templates are parsed, never run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from jinja2 import Environment, TemplateSyntaxError, nodes

from distributor.files.reader import FileRefused, read_file

LARGEST_TEMPLATE = 256 * 2**10  # bytes of one file


def columns_used(folders: Iterable[Path], kinds: Iterable[str]) -> frozenset[str]:
    """The columns that any template of these kinds in these folders names."""
    files = (path for folder in folders for kind in kinds for path in folder.glob(f"{kind}/**/*"))
    names = {path for path in files if path.suffix in {".txt", ".html"}}
    return frozenset(name for file in names for name in _columns_in(file))


def _columns_in(file: Path) -> Iterator[str]:
    """The names after `column` or `person.columns`; every word of a file where they cannot be told."""
    try:
        text = read_file(file, LARGEST_TEMPLATE, follow=True).decode("utf-8", "replace")
    except FileRefused:
        return
    try:
        tree = Environment(autoescape=True).parse(text)
    except (TemplateSyntaxError, RecursionError):
        yield from re.findall(r"\w+", text)
        return
    asked: list[nodes.Getattr | nodes.Getitem] = [*tree.find_all(nodes.Getattr), *tree.find_all(nodes.Getitem)]
    below = {id(node.node): name for node in asked if _is_columns(node.node) and (name := _name(node))}
    yield from below.values()
    if any(_is_columns(node) and id(node) not in below for node in (*asked, *tree.find_all(nodes.Name))):  # a loop, or another name for it
        yield from re.findall(r"\w+", text)


def _is_columns(node: nodes.Node) -> bool:
    return (isinstance(node, nodes.Name) and node.name == "column") or _name(node) == "columns"


def _name(node: nodes.Node) -> str | None:
    """The attribute or key that an expression reads, where it is constant."""
    match node:
        case nodes.Getattr(attr=str(name)) if not hasattr(dict, name):
            return name
        case nodes.Getitem(arg=nodes.Const(value=str(name))):
            return name
    return None
