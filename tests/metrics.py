"""Figures of the product's source: size, import circles, names defined twice, banned words, short docstrings. `python -m tests.metrics`."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ROOT / "distributor"
TEXTS = ("distributor/**/*.py", "docs/**/*.md", "templates/**/*", "README.md")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60  # lines
SHORT_DOCSTRING = 4  # words
BANNED = (  # metaphors that this code base once had; the words of mail, databases and PKI say it better
    r"\b(?:desk(?! phone)|tally|walls?|feed|heaps?|stray|pile|slips?|postbox|stationery|knock|torn|hungry)\b",
    r"\bheld against\b",
    r"\bhold(?:s|ing)? against\b",
    r"\bwhat became of\b",
    r"\blets itself be\b",
    r"\bon the wire\b",
    r"(?<!-)\broads?\b",  # a lock file is called `-roads`, by contract
    r"\bdoors?\b",
)
_WANTED = re.compile("|".join(BANNED), re.IGNORECASE)


def modules() -> dict[str, ast.Module]:
    """Every module of the product by its dotted name."""
    found = {}
    for path in sorted(PRODUCT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(name: str, tree: ast.Module, known: set[str]) -> set[str]:
    """The product's modules that are imported with this one, without what a function or only a type checker imports."""
    found: set[str] = set()
    for node in _at_import(tree.body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
    return (found & known) - {name}


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _at_import(node.orelse)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from _at_import([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])
        else:
            yield node


def circles(found: dict[str, ast.Module], *, with_types: bool = True) -> list[list[str]]:
    """Sets of modules that import each other, smallest first; `with_types` counts imports for type checkers and inside functions too."""
    known = set(found)
    if with_types:
        edges = {name: _everywhere(name, tree, known) for name, tree in found.items()}
    else:
        edges = {name: imports(name, tree, known) for name, tree in found.items()}
    return sorted((sorted(part) for part in _components(edges) if len(part) > 1), key=len)


def _everywhere(name: str, tree: ast.Module, known: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
    return (found & known) - {name}


def _components(edges: dict[str, set[str]]) -> Iterator[set[str]]:
    """Strongly connected components: two modules belong together when each reaches the other."""
    reach = {name: _reached(name, edges) for name in edges}
    left = set(edges)
    while left:
        name = left.pop()
        part = {other for other in reach[name] if name in reach.get(other, ())} | {name}
        left -= part
        yield part


def _reached(name: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [*edges[name]]
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            waiting += edges.get(here, ())
    return seen


def defined_twice(found: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Public classes that more than one module defines."""
    places: dict[str, list[str]] = {}
    for name, tree in found.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    return {name: where for name, where in places.items() if len(where) > 1}


def functions(found: dict[str, ast.Module]) -> Iterator[tuple[int, str]]:
    """Every function with its number of lines."""
    for name, tree in found.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{name}:{node.name}"


def private_functions(found: dict[str, ast.Module]) -> list[str]:
    """Functions and methods whose name begins with one underscore."""
    return [where for _, where in functions(found) if re.search(r":_(?!_)", where)]


def short_docstrings(found: dict[str, ast.Module]) -> list[str]:
    """Docstrings of four words or fewer: too little to help, and a name would say as much."""
    short = []
    for name, tree in found.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text is not None and len(text.split()) <= SHORT_DOCSTRING:
                    short.append(f"{name}:{getattr(node, 'name', '')}: {text}")
    return short


def lengths() -> dict[Path, int]:
    """The lines of every file of the product."""
    return {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PRODUCT.rglob("*.py")}


def words(text: str) -> list[str]:
    """The banned words in a text."""
    return [found.group() for found in _WANTED.finditer(text)]


def banned() -> Iterator[str]:
    """Where a banned word stands."""
    for pattern in TEXTS:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "migrations/versions" not in path.as_posix():
                for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                    yield from (f"{path.relative_to(ROOT)}:{number}: {word}" for word in words(line))


def main() -> None:
    """Print the figures."""
    found = modules()
    lines = lengths()
    longest_file, longest_function = max(lines.items(), key=lambda item: item[1]), max(functions(found))
    stems = Counter(name.rpartition(".")[2] for name in found)
    twice, left, short = defined_twice(found), list(banned()), short_docstrings(found)
    show = "--all" in sys.argv
    for line in (
        f"files                    {len(lines)}, {sum(count < 100 for count in lines.values())} of them under 100 lines",
        f"lines                    {sum(lines.values())}",
        f"longest file             {longest_file[0].relative_to(ROOT)} {longest_file[1]}",
        f"longest function         {longest_function[1]} {longest_function[0]}",
        f"private functions        {len(private_functions(found))} of {len(list(functions(found)))}",
        f"docstrings of <= {SHORT_DOCSTRING} words {len(short)}",
        f"import circles           {len(circles(found, with_types=False))} at import, {len(circles(found))} with types and in functions",
        f"classes defined twice    {len(twice)}",
        f"module names twice       {sum(count > 1 for count in stems.values())}",
        f"banned words             {len(left)}",
    ):
        print(line)
    if show:
        print("\n".join([*map(repr, circles(found)), *(f"{name}: {', '.join(where)}" for name, where in twice.items()), *left, *short]))


if __name__ == "__main__":
    main()
