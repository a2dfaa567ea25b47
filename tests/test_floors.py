"""Imports go down only: the table of floors, held against what each file imports (DESIGN: The house)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "distributor"

# Each room, and the rooms it may import besides itself. An adapter is named by its folder; adapters never import each other.
ADAPTERS = frozenset({"channels", "directories", "rosters", "sources", "trackers", "transports"})
FLOORS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "atomic": frozenset(),
    "core": frozenset({"errors"}),
    "bounded_files": frozenset({"core", "errors"}),
    "config": frozenset({"bounded_files", "core", "errors"}),
    "bounded_time": frozenset(),
    "spool": frozenset({"errors"}),
    "template_columns": frozenset(),
    "stationery": frozenset({"bounded_time", "core", "errors", "template_columns"}),
    "clients": frozenset({"bounded_files", "core", "errors"}),
    "processes": frozenset({"core", "errors"}),
    "worker": frozenset({"core", "errors"}),
    "workers": frozenset({"core", "errors", "worker"}),
    "ledger": frozenset({"core", "errors"}),
    "flow": frozenset({"core", "errors"}),
    "rosters": frozenset({"bounded_files", "clients", "core", "errors"}),
    "sources": frozenset({"bounded_files", "clients", "core", "errors"}),
    "transports": frozenset({"clients", "core", "errors", "atomic"}),
    "channels": frozenset({"clients", "core", "errors"}),
    "trackers": frozenset({"clients", "core", "errors"}),
    "directories": frozenset({"atomic", "bounded_files", "clients", "core", "errors"}),
    "wiring": ADAPTERS | {"config", "core", "errors", "flow", "intake", "ledger", "processes", "stationery", "workers"},
    "trusting": ADAPTERS | {"bounded_files", "clients", "config", "core", "errors", "flow", "intake", "wiring", "workers"},
    "outgoing": ADAPTERS | {"config", "core", "errors", "flow", "intake", "ledger", "processes", "stationery", "wiring", "workers"},
    "intake": ADAPTERS | {"bounded_files", "config", "core", "errors", "flow", "spool", "wiring", "workers"},
    "cli": frozenset({"bounded_files", "config", "intake", "core", "errors", "atomic", "flow", "ledger"})
    | {"outgoing", "processes", "spool", "trusting", "wiring"},
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}
CORE_MAY_USE = frozenset(
    {
        "abc",
        "array",
        "asn1crypto",
        "base64",
        "binascii",
        "bisect",
        "codecs",
        "collections",
        "contextlib",
        "copy",
        "csv",
        "cryptography",
        "dataclasses",
        "datetime",
        "decimal",
        "difflib",
        "email",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "html",
        "idna",
        "io",
        "itertools",
        "json",
        "marshal",
        "math",
        "operator",
        "pyhanko_certvalidator",
        "quopri",
        "re",
        "string",
        "struct",
        "textwrap",
        "types",
        "typing",
        "unicodedata",
        "urllib",
        "uuid",
        "warnings",
        "zlib",
    }
)
NEVER = frozenset({"utils", "helpers", "common", "manager", "base"})


def files() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def room(path: Path) -> str:
    relative = path.relative_to(HOUSE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            if node.module == "distributor":
                yield from ((f"distributor.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module or "", node.lineno


def ours(path: Path) -> Iterator[tuple[str, int]]:
    """The rooms a file imports from."""
    for name, line in imports(path):
        if name.startswith("distributor."):
            yield name.split(".")[1], line


def test_every_room_is_in_the_table() -> None:
    assert {room(path) for path in files()} <= set(FLOORS)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_go_down_only(path: Path) -> None:
    here = room(path)
    wrong = [
        f"line {line}: {here} imports {name}" for name, line in ours(path) if name not in {here, "__version__"} and name not in FLOORS[here]
    ]
    assert wrong == []


@pytest.mark.parametrize("path", [path for path in files() if room(path) == "core"], ids=lambda path: path.name)
def test_the_core_knows_no_clock_no_socket_no_file_and_no_environment(path: Path) -> None:
    foreign = {name.partition(".")[0] for name, _ in imports(path)} - {"distributor", "__future__"}
    assert foreign <= CORE_MAY_USE
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not {"open", "print", "input", "datetime.now", "datetime.utcnow", "exec", "eval"} & set(calls)


@pytest.mark.parametrize("adapters", sorted(ADAPTERS))
def test_an_adapter_imports_no_other_adapter(adapters: str) -> None:
    public = {path.stem for path in (HOUSE / adapters).glob("*.py") if not path.name.startswith("_")}
    for path in (HOUSE / adapters).glob("*.py"):
        named = {name.split(".")[2] for name, _ in imports(path) if name.startswith(f"distributor.{adapters}.")}
        assert not named & public, path


@pytest.mark.parametrize(
    "path", [path for path in files() if room(path) not in {"cli", "__main__"}], ids=lambda path: str(path.relative_to(HOUSE))
)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not {"print", "input", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write"} & set(calls)


def test_nothing_has_a_name_that_means_nothing() -> None:
    assert not [path for path in files() if NEVER & set(path.relative_to(HOUSE).with_suffix("").parts)]


def test_a_file_has_at_most_four_hundred_lines() -> None:
    assert [path for path in files() if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []
