"""Certificates compared with their own bytes, whose hash the events have. Issuer, serial and end stand in the events themselves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from sqlalchemy import Select, Table, bindparam, select

from distributor.ledger import engine
from distributor.ledger.engine import Database
from distributor.ledger.planning import storable
from distributor.ledger.tables import authority, certificate
from distributor.model.audit_log import format_timestamp
from distributor.pki import spki

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd serial number is no finding
        for sha, der, *fields in engine.paged(database, _LEAVES, CERTIFICATES_PAGE, {"last": after, "until": until}):
            if not _is(der, sha):
                found.append(f"certificate {sha}: does not match its SHA-256")
            elif not _says_so(der, *fields):
                found += _differences(sha, der, fields)
    return found


def verify_authorities(database: Database, after: str, until: str) -> list[str]:
    """CA certificates that are other bytes than their hash says."""
    rows = engine.paged(database, _AUTHORITIES, CERTIFICATES_PAGE, {"last": after, "until": until})
    return [f"CA certificate {sha}: does not match its SHA-256" for sha, der in rows if not _is(der, sha)]


def _is(der: object, sha: str) -> bool:
    return isinstance(der, bytes) and sha256(der).hexdigest() == sha


def _differences(sha: str, der: bytes, fields: list[object]) -> Iterator[str]:
    for name, found, wanted in zip(_FIELDS, fields, _says(der), strict=False):
        if found != wanted:
            yield f'certificate {sha}: {name} is "{str(found)[:80]}", but the certificate says "{str(wanted)[:80]}"'


def _says(der: bytes) -> tuple[str | None, ...]:
    """What a certificate says, as its row has it; nothing where it cannot be read."""
    from distributor.pki.certificate import Certificate, load  # noqa: PLC0415  heavy, and only a look at the whole ledger needs it

    read = load(der)
    if not isinstance(read, Certificate):
        return ()
    return storable(read.subject_text), format_timestamp(read.not_before), spki.sha256_of(der)


# --- at once ---------------------------------------------------------------------------------------------------------
# A plain certificate is compared without the care that odd ones need; whatever is not proved so is compared as above.


def _says_so(der: bytes, subject: object, not_before: object, key_sha256: object) -> bool:
    from cryptography import x509  # noqa: PLC0415  as above

    try:
        read = x509.load_der_x509_certificate(der)
        same = read.subject.rfc4514_string() == subject and f"{read.not_valid_before_utc:%Y-%m-%dT%H:%M:%S}.000000Z" == not_before
        return same and str(subject).isprintable() and sha256(_public_key(der)).hexdigest() == key_sha256
    except (ValueError, IndexError):
        return False


def _public_key(der: bytes) -> bytes:
    """The public key (SubjectPublicKeyInfo) of a certificate that was parsed before. Raises IndexError or ValueError for an odd one."""
    place = _content(der, _content(der, 0)[0])[0]  # of the first field that is signed
    if der[place] == _VERSION:
        place = sum(_content(der, place))
    for _ in range(_BEFORE_THE_KEY):
        place = sum(_content(der, place))
    start, length = _content(der, place)
    return der[place : start + length]


_VERSION = 0xA0
_BEFORE_THE_KEY = 5  # fields: serial number, signature, issuer, validity, subject
_LONG = 0x80


def _content(der: bytes, place: int) -> tuple[int, int]:
    """Where the content of the value at `place` begins, and its length."""
    length = der[place + 1]
    if length < _LONG:
        return place + 2, length
    end = place + 2 + length - _LONG
    return end, int.from_bytes(der[place + 2 : end])
