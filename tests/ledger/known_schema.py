"""Remembers in a process what the migrations make, which `verify` runs each time, and with which nearly every test of a ledger ends.

test_schema_verification.py compares with what they make each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from sqlalchemy import Connection

from distributor.ledger import schema_verification

EACH_TIME = {"_fresh_file": schema_verification._fresh_file, "_on_server": schema_verification._on_server}  # noqa: SLF001
_ON_SERVER: dict[object, schema_verification.Objects] = {}  # by the server's version


def _on_server(connection: Connection, note: Callable[[str], None]) -> Iterator[str]:
    version = connection.dialect.server_version_info
    if version in _ON_SERVER:
        found = schema_verification._described(connection)  # noqa: SLF001
        return schema_verification._differences(found, _ON_SERVER[version])  # noqa: SLF001
    faults, notes = [], []
    faults += EACH_TIME["_on_server"](connection, notes.append)
    if not faults and not notes:  # so the ledger is as the migrations make one
        _ON_SERVER[version] = schema_verification._described(connection)  # noqa: SLF001
    for text in notes:
        note(text)
    return iter(faults)


def remember() -> None:
    """From now on."""
    schema_verification._fresh_file = cache(EACH_TIME["_fresh_file"])  # noqa: SLF001
    schema_verification._on_server = _on_server  # noqa: SLF001
