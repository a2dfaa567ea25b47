"""Certificates compared with their own bytes, whose hash the events have. Issuer, serial and end stand in the events themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import Select, Table, bindparam, select

from distributor.ledger import engine
from distributor.ledger.engine import Database
from distributor.ledger.planning import storable
from distributor.ledger.tables import authority, certificate, delivery, event
from distributor.model.audit_log import ERASED, format_timestamp
from distributor.model.states import State
from distributor.pki import plain_certificate, spki

CERTIFICATES_PAGE = 500  # one has about 1.5 KB
_FIELDS = ("subject", "not_before", "key_sha256")


def _by_hash(table: Table, *fields: str) -> Select[Any]:
    asked = select(*(table.c[name] for name in ("sha256", "der", *fields)))
    asked = asked.where(table.c.sha256 > bindparam("last"), table.c.sha256 <= bindparam("until"))
    return asked.order_by(table.c.sha256).limit(CERTIFICATES_PAGE)


_LEAVES, _AUTHORITIES = _by_hash(certificate, *_FIELDS), _by_hash(authority)


def verify_certificates(database: Database, after: str, until: str) -> list[str]:
    """Leaves between two hashes that are other bytes than their hash says, or say something else of themselves than their row."""
    found: list[str] = []
    for sha, der, *fields in engine.paged(database, _LEAVES, CERTIFICATES_PAGE, {"last": after, "until": until}):
        if der == b"" and (told := _erased(database, sha)) is not None:
            found += _differences(sha, ("", *told), fields, "the audit log")
        elif not _is(der, sha):
            found.append(f"certificate {sha}: does not match its SHA-256")
        elif not _says_so(der, *fields):
            found += _differences(sha, _says(der), fields, "the certificate")
    return found


def verify_authorities(database: Database, after: str, until: str) -> list[str]:
    """CA certificates that are other bytes than their hash says."""
    rows = engine.paged(database, _AUTHORITIES, CERTIFICATES_PAGE, {"last": after, "until": until})
    return [f"CA certificate {sha}: does not match its SHA-256" for sha, der in rows if not _is(der, sha)]


_ERASURES = (
    select(event.c.event, event.c.evidence)
    .join(delivery, delivery.c.id == event.c.delivery)
    .where(delivery.c.certificate == bindparam("sha256"), event.c.event.in_([State.PLANNED.value, ERASED]))
    .order_by(event.c.seq.desc())
    .limit(1)
)


def _erased(database: Database, sha: str) -> tuple[object, object] | None:
    """What the audit log says of a certificate that was erased with its person, and is nobody's since: its start and its key's hash."""
    with database.reading() as connection:
        last = connection.execute(_ERASURES, {"sha256": sha}).one_or_none()
    if last is None or last.event != ERASED:
        return None
    try:
        evidence = json.loads(last.evidence)
    except (ValueError, RecursionError):
        return None
    found = evidence.get("certificate_not_before"), evidence.get("certificate_key_sha256")
    return found if evidence.get("certificate_sha256") == sha else None


def _is(der: object, sha: str) -> bool:
    return isinstance(der, bytes) and sha256(der).hexdigest() == sha


def _says_so(der: bytes, subject: object, not_before: object, key_sha256: object) -> bool:
    """Whether a plain certificate says what its row has; whatever is not proved so is compared with all care."""
    try:
        return plain_certificate.read(der) == (subject, str(not_before).removesuffix(".000000Z"), key_sha256)
    except (ValueError, IndexError):
        return False


def _differences(sha: str, told: Sequence[object], fields: Sequence[object], by: str) -> Iterator[str]:
    for name, found, wanted in zip(_FIELDS, fields, told, strict=False):
        if found != wanted:
            yield f'certificate {sha}: {name} is "{str(found)[:80]}", but {by} says "{str(wanted)[:80]}"'


def _says(der: bytes) -> tuple[str | None, ...]:
    """What a certificate says, as its row has it; nothing where it cannot be read."""
    from distributor.pki.certificate import Certificate, load  # noqa: PLC0415  heavy, and only a look at the whole ledger needs it

    read = load(der)
    if not isinstance(read, Certificate):
        return ()
    return storable(read.subject_text), format_timestamp(read.not_before), spki.sha256_of(der)
