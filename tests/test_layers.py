"""Imports go down only: the table of layers, compared with what each file imports (DESIGN: Packages)."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from distributor.adapters import REGISTRY

PRODUCT = Path(__file__).parents[1] / "distributor"

FAMILIES = frozenset(REGISTRY)
PURE = frozenset({"errors", "model", "pki", "mail", "microsoft"})
LAYERS: dict[str, frozenset[str]] = {  # each package, and those that it may import besides itself
    "errors": frozenset(),
    "model": frozenset({"errors"}),
    "pki": frozenset({"errors", "model"}),
    "mail": frozenset({"errors", "files", "model"}),
    "microsoft": frozenset({"errors", "model", "pki"}),
    "vault": frozenset({"errors", "model"}),
    "files": frozenset({"errors", "model"}),
    "config": frozenset({"errors", "files", "microsoft", "model"}),
    "ledger": frozenset({"errors", "mail", "model", "pki"}),
    "clients": PURE | {"files"},
    "workers": frozenset({"errors", "model"}),
    "adapters": PURE | {"clients", "files"},
    "workflows": PURE,
    "bootstrap": PURE | {"adapters", "clients", "config", "files", "ledger", "vault", "workers", "workflows"},
    "portal": PURE | {"bootstrap", "config", "files", "workflows"},
    "cli": PURE | {"bootstrap", "config", "files", "ledger", "portal", "workers", "workflows"},
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}
PURE_CODE_MAY_USE = frozenset(
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
        "flufl",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "html",
        "idna",
        "io",
        "itertools",
        "json",
        "logging",
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
    return sorted(PRODUCT.rglob("*.py"))


def package(path: Path) -> str:
    relative = path.relative_to(PRODUCT)
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
    """The packages a file imports from."""
    for name, line in imports(path):
        if name.startswith("distributor."):
            yield name.split(".")[1], line


def test_every_package_is_in_the_table() -> None:
    assert {package(path) for path in files()} <= set(LAYERS)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PRODUCT)))
def test_imports_go_down_only(path: Path) -> None:
    here = package(path)
    wrong = [
        f"line {line}: {here} imports {name}" for name, line in ours(path) if name not in {here, "__version__"} and name not in LAYERS[here]
    ]
    assert wrong == []


@pytest.mark.parametrize("path", [path for path in files() if package(path) == "model"], ids=lambda path: path.name)
def test_the_model_knows_no_clock_no_socket_no_file_and_no_environment(path: Path) -> None:
    check_pure(path, PURE_CODE_MAY_USE)


@pytest.mark.parametrize("path", [path for path in files() if package(path) in {"pki", "microsoft"}], ids=lambda path: path.name)
def test_nor_does_what_reads_certificates_or_knows_a_service(path: Path) -> None:
    check_pure(path, PURE_CODE_MAY_USE | {"idna", "logging", "pkilint"})


def check_pure(path: Path, may_use: frozenset[str]) -> None:
    foreign = {name.partition(".")[0] for name, _ in imports(path)} - {"distributor", "__future__"}
    assert foreign <= may_use
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not {"open", "print", "input", "datetime.now", "datetime.utcnow", "exec", "eval"} & set(calls)


def test_the_registry_names_every_family() -> None:
    assert sorted(FAMILIES) == sorted(path.name for path in (PRODUCT / "adapters").iterdir() if (path / "__init__.py").is_file())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_adapter_imports_no_other_adapter(family: str) -> None:
    for path in (PRODUCT / "adapters" / family).rglob("*.py"):
        own = path.relative_to(PRODUCT / "adapters" / family).parts[0].removesuffix(".py")
        named = {tuple(name.split(".")[2:4]) for name, _ in imports(path) if name.startswith("distributor.adapters.")}
        assert {each[0] for each in named} <= {family}, path
        assert not {each[1] for each in named if len(each) > 1} & ({name.split(".")[-1] for name in REGISTRY[family].values()} - {own}), (
            path
        )


@pytest.mark.parametrize(
    "path", [path for path in files() if package(path) not in {"cli", "__main__"}], ids=lambda path: str(path.relative_to(PRODUCT))
)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not {"print", "input", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write"} & set(calls)


def test_nothing_has_a_name_that_means_nothing() -> None:
    assert not [path for path in files() if NEVER & set(path.relative_to(PRODUCT).with_suffix("").parts)]


def test_a_file_has_at_most_four_hundred_lines() -> None:
    assert [path for path in files() if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((PRODUCT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [each for name, group in project["optional-dependencies"].items() if name not in {"all", "dev"} for each in group]
    declared = {re.split(r"[\[>;= ]", each)[0].lower() for each in (*project["dependencies"], *extras)}
    known = packages_distributions()
    imported = {name.partition(".")[0] for path in files() for name, _ in imports(path)} - {"distributor", "tests", "_typeshed"}
    foreign = imported - set(sys.stdlib_module_names)
    undeclared = {name for name in foreign if not {each.lower() for each in known.get(name, [name])} & declared}
    assert undeclared == set()
