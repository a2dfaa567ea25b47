"""The versions that a report of a problem needs: of the program, what it stands on, and each library that it may use."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator

from distributor import __version__

NAME = "distributor"
_REQUIREMENT = re.compile(r"[\w.-]+")
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
_DERIVED = frozenset({"all", "dev"})  # extras made of others, or for who develops


def main_parts() -> Iterator[str]:
    """What matters most, a line each: the program, Python, OpenSSL, SQLite, the SMTP client."""
    from importlib.metadata import version

    from cryptography.hazmat.backends.openssl import backend

    from distributor.ledger.sqlite import keeps_wal, sqlite3

    journal = "write-ahead log on" if keeps_wal() else "write-ahead log off, because this release can corrupt it; slower, but safe"
    yield f"{NAME} {__version__}, Python {platform.python_version()} on {sys.platform}"
    yield f"cryptography {version('cryptography')} with {backend.openssl_version_text()}"
    yield f"SQLite {sqlite3.sqlite_version}, {journal}"
    yield f"aiosmtplib {version('aiosmtplib')}"


def lines() -> Iterator[str]:
    """Everything; begins with what `--version` prints."""
    yield f"{NAME} {__version__}"
    yield f"system: {platform.platform()}, {platform.python_implementation()} {platform.python_version()}"
    yield from list(main_parts())[1:3]
    for extra, names in _requirements().items():
        yield f"{f'extra {extra}' if extra else 'libraries'}: {', '.join(map(_with_version, names))}"


def _requirements() -> dict[str, list[str]]:
    """The libraries that the installed program names, by extra; "" is none."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        declared = requires(NAME) or []
    except PackageNotFoundError:  # run from a folder
        declared = []
    found: dict[str, list[str]] = {"": []}
    for line in declared:
        extra = _EXTRA.search(line)
        if (name := _REQUIREMENT.match(line)) and not (extra and extra[1] in _DERIVED):
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def _with_version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"
