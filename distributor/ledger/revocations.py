"""Certificates in use, to be checked for revocation; and what is recorded when one is revoked or reinstated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime

from sqlalchemy import Connection, bindparam, or_, select, update

from distributor.ledger import certificate_owners, transitions
from distributor.ledger.engine import Database
from distributor.ledger.tables import IS_REVOCATION, authority, certificate, delivery, event, person
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import format_timestamp
from distributor.model.certificates import HOLD, IN_USE, RELEASED, CertificateInUse, RevokedDelivery, is_hold
from distributor.model.states import REMAINING, State

PAGE = 200  # certificates
_IN_USE = sorted(state.value for state in IN_USE)
_OF_IT = delivery.c.certificate == certificate.c.sha256
_ON_HOLD = (  # or was once: whether it is good again is checked even if all its deliveries were withdrawn
    select(event.c.seq).join(delivery, delivery.c.id == event.c.delivery).where(_OF_IT, IS_REVOCATION, event.c.evidence.contains(HOLD))
)
_ISSUED = (
    select(certificate.c.sha256, certificate.c.der, certificate.c.chain)
    .where(
        certificate.c.sha256 > bindparam("last"),
        certificate.c.not_after > bindparam("now"),
        or_(select(delivery.c.id).where(_OF_IT, delivery.c.state.in_(_IN_USE)).exists(), _ON_HOLD.exists()),
    )
    .order_by(certificate.c.sha256)
    .limit(PAGE)
)
_DELIVERIES_OF = (
    select(delivery.c.id, person.c.address)
    .join(person, person.c.id == delivery.c.person)
    .where(delivery.c.certificate == bindparam("certificate"))
    .order_by(delivery.c.id)
)
_IN_USE_OF = _DELIVERIES_OF.where(delivery.c.state.in_(_IN_USE))
_SET_SAID = update(delivery).where(delivery.c.id == bindparam("b_id")).values(said=bindparam("words"))


def issued(database: Database, now: datetime) -> Iterator[CertificateInUse]:
    """Every certificate in use, by its hash."""
    above: dict[str, bytes] = {}
    last = ""
    while True:
        with database.reading() as connection:
            page = connection.execute(_ISSUED, {"last": last, "now": format_timestamp(now)}).all()
            chains = [json.loads(row.chain) for row in page]
            _learn(connection, above, {sha for chain in chains for sha in chain})
            whose = _whose(connection, [row.sha256 for row in page])
            gone = certificate_owners.revoked(connection, [row.sha256 for row in page])
        for row, chain in zip(page, chains, strict=True):
            yield CertificateInUse(
                row.sha256, bytes(row.der), tuple(above[sha] for sha in chain), tuple(whose[row.sha256]), gone.get(row.sha256)
            )
        if len(page) < PAGE:
            return
        last = page[-1].sha256


def _whose(connection: Connection, certificates: list[str]) -> dict[str, dict[str, None]]:
    """The addresses of each certificate's people."""
    asked = select(delivery.c.certificate, person.c.address).join(person, person.c.id == delivery.c.person)
    found: dict[str, dict[str, None]] = {}
    for sha, address in connection.execute(asked.where(delivery.c.certificate.in_(certificates)).order_by(delivery.c.id)):
        found.setdefault(sha, {})[address] = None
    return found


def _learn(connection: Connection, above: dict[str, bytes], wanted: set[str]) -> None:
    """Authorities that were not met before."""
    missing = sorted(wanted - set(above))
    for start in range(0, len(missing), transitions.CHUNK):
        asked = select(authority.c.sha256, authority.c.der).where(authority.c.sha256.in_(missing[start : start + transitions.CHUNK]))
        above |= {sha: bytes(der) for sha, der in connection.execute(asked)}


def revoke(tx: WriteTransaction, certificate_sha256: str, reason: str) -> list[RevokedDelivery]:
    """Record the revocation on its deliveries, on each once; those not sent are withdrawn, also when a sender returns them later."""
    addresses: dict[str, str] = dict(tx.connection.execute(_IN_USE_OF, {"certificate": certificate_sha256}).all())
    rows = transitions.rows(tx, list(addresses))
    by_certificate = {certificate_sha256: reason}
    new = certificate_owners.record_revocation(tx, [rows[id_] for id_ in addresses], by_certificate)
    _set_said(tx, addresses, reason)
    unsent = [rows[id_] for id_ in addresses if State(rows[id_]["state"]) in REMAINING]
    certificate_owners.withdraw(tx, unsent, by_certificate)
    gone = {row["id"] for row in unsent}
    touched = gone | {row["id"] for row in new}
    return [_revoked_delivery(rows[id_], address, reason, gone=id_ in gone) for id_, address in addresses.items() if id_ in touched]


def _revoked_delivery(row: transitions.Row, address: str, reason: str, *, gone: bool) -> RevokedDelivery:
    before = State(row["state"])
    return RevokedDelivery(row["id"], address, before, State.WITHDRAWN if gone else before, sanitize(reason))


def reinstate(tx: WriteTransaction, certificate_sha256: str, reason: str) -> list[RevokedDelivery]:
    """Record on its deliveries that the hold is over; withdrawn ones stay so. Nothing where it was revoked for good."""
    known = certificate_owners.recorded_revocations(tx.connection, [certificate_sha256])
    if not known or not is_hold(certificate_owners.revoked(tx.connection, [certificate_sha256]).get(certificate_sha256, "")):
        return []
    rows = transitions.rows(tx, list(known))
    tx.append([NewEvent(id_, RELEASED, None, None, certificate_owners.evidence(certificate_sha256, reason)) for id_ in rows])
    _set_said(tx, [id_ for id_, row in rows.items() if row["state"] != State.WITHDRAWN], reason)
    addresses: dict[str, str] = dict(tx.connection.execute(_DELIVERIES_OF, {"certificate": certificate_sha256}).all())
    return [_revoked_delivery(row, addresses[id_], reason, gone=False) for id_, row in rows.items()]


def _set_said(tx: WriteTransaction, ids: Iterable[str], reason: str) -> None:
    tx.many(_SET_SAID, [{"b_id": id_, "words": sanitize(reason)} for id_ in ids])
