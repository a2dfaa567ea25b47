"""Every certificate beside its own bytes -> which is another one, or says something else of itself than its row.

Its hash stands in the events of its deliveries, so what it says of itself is as sure as they are. They tell issuer, serial and end.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from sqlalchemy import Table, bindparam, select

from distributor.ledger import engine
from distributor.ledger.engine import Database
from distributor.ledger.planning import storable
from distributor.ledger.tables import authority, certificate
from distributor.model.audit_log import format_timestamp
from distributor.model.people import escape_unsafe
from distributor.pki import spki

PAGE = 500  # certificates; one has about 1.5 KB
_FIELDS = ("subject", "not_before", "key_sha256")
_LEAVES = select(*(certificate.c[name] for name in ("sha256", "der", *_FIELDS)))
_AUTHORITIES = select(authority.c.sha256, authority.c.der)


def faults(database: Database) -> Iterator[str]:
    """Everything that is wrong with leaves, then with authorities."""
    for sha, der, *fields in _pages(database, certificate, _LEAVES):
        if not _is(der, sha):
            yield f"certificate {sha}: holds other bytes than its SHA-256 tells"
        else:
            yield from _different(sha, fields, _says(der))
    for sha, der in _pages(database, authority, _AUTHORITIES):
        if not _is(der, sha):
            yield f"authority {sha}: holds other bytes than its SHA-256 tells"


def _pages(database: Database, table: Table, asked: Any) -> Iterator[Any]:  # noqa: ANN401  a query and its rows
    last = ""
    paged = asked.where(table.c.sha256 > bindparam("last")).order_by(table.c.sha256).limit(PAGE)
    while True:
        with database.reading() as connection:
            page = engine.all_rows(connection, paged, {"last": last})
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1][0]


def _is(der: object, sha: str) -> bool:
    return isinstance(der, bytes) and sha256(der).hexdigest() == sha


def _says(der: bytes) -> tuple[str | None, ...]:
    """What a certificate says, as its row has it; nothing where it cannot be read."""
    from distributor.pki.certificate import Certificate, load  # noqa: PLC0415  heavy, and only a look at the whole ledger needs it

    read = load(der)
    if not isinstance(read, Certificate):
        return ()
    return storable(escape_unsafe(read.parsed.subject.rfc4514_string())), format_timestamp(read.not_before), spki.sha256_of(der)


def _different(sha: str, fields: list[str], says: tuple[str | None, ...]) -> Iterator[str]:
    for name, found, wanted in zip(_FIELDS, fields, says, strict=False):
        if found != wanted:
            yield f'certificate {sha}: {name} is "{str(found)[:80]}", but it says "{str(wanted)[:80]}" of itself'
