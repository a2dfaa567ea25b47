"""Certificates that people have: where they are published, which are in use, and what is recorded when one is revoked or reinstated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from distributor.errors import InvalidInput
from distributor.ledger import certificate_owners, engine, transitions
from distributor.ledger.engine import Database
from distributor.ledger.person_projection import NOT_ERASED
from distributor.ledger.tables import IS_REVOCATION, authority, certificate, delivery, event, person, publication
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.certificates import CertificateHolder, CertificateInUse, PublishableCertificate, RevokedDelivery
from distributor.model.revocation import HOLD, IN_USE, RELEASED, is_hold
from distributor.model.states import RECEIVED, REMAINING, State

PEOPLE_PAGE = 200  # people; their certificates come with them
_RECEIVED = frozenset(state.value for state in RECEIVED)
_PEOPLE = select(person.c.id).where(person.c.id > bindparam("last")).order_by(person.c.id).limit(PEOPLE_PAGE)
_THEIRS = (
    select(
        person.c.id,
        person.c.address,
        person.c.name,
        delivery.c.id.label("delivery"),
        delivery.c.state,
        certificate.c.sha256,
        certificate.c.der,
        certificate.c.not_before,
        certificate.c.not_after,
    )
    .join(delivery, delivery.c.person == person.c.id)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
    .where(person.c.id > bindparam("last"), person.c.id <= bindparam("until"), NOT_ERASED)
    .order_by(person.c.id, delivery.c.id.desc())
)


def holders(database: Database) -> Iterator[CertificateHolder]:
    """People who received a certificate, in the order they became known; or were to, where it is public and the message bounced."""
    last = ""
    while True:
        with database.reading() as connection:
            ids = list(connection.execute(_PEOPLE, {"last": last}).scalars())
            page = _page(connection, last, ids[-1]) if ids else []
        yield from page
        if len(ids) < PEOPLE_PAGE:
            return
        last = ids[-1]


def _page(connection: Connection, last: str, until: str) -> list[CertificateHolder]:
    rows = connection.execute(_THEIRS, {"last": last, "until": until}).all()
    _refuse_changed(connection, rows)
    gone = frozenset(certificate_owners.unusable(connection, (row.sha256 for row in rows)))
    places = _places(connection, rows)
    found = (_holder(list(theirs), gone, places) for _, theirs in groupby(rows, key=lambda row: row.id))
    return [holder for holder in found if holder.certificates]


def _refuse_changed(connection: Connection, rows: Sequence[Any]) -> None:
    """Raise InvalidInput where a certificate is not the one that a delivery was planned with: others would encrypt to a stranger."""
    planned: dict[str, str] = {}
    for ids in engine.chunks([row.delivery for row in rows]):
        asked = select(event.c.delivery, event.c.evidence).where(event.c.delivery.in_(ids), event.c.event == State.PLANNED.value)
        for id_, evidence in connection.execute(asked.order_by(event.c.seq.desc())):
            planned[id_] = json.loads(evidence).get("certificate_sha256", planned.get(id_, ""))
    for row in rows:
        if planned.get(row.delivery) != row.sha256 or sha256(row.der).hexdigest() != row.sha256:
            message = "the ledger was modified outside distributor (certificate); nothing was published"
            raise InvalidInput(message, where=row.delivery, hint="run `distributor audit verify` to see what was modified")


def _holder(rows: Sequence[Any], gone: frozenset[str], places: dict[tuple[str, str], set[str]]) -> CertificateHolder:
    """Of several generations of a certificate the newest that arrived counts."""
    certificates: dict[str, PublishableCertificate] = {}
    received = {row.sha256 for row in rows if row.state in _RECEIVED}
    for row in rows:
        public = frozenset(places.get((row.id, row.sha256), ()))
        lost = row.sha256 not in received
        if row.sha256 not in certificates and (public if lost else row.state in _RECEIVED):
            times = parse_timestamp(row.not_before), parse_timestamp(row.not_after)
            certificates[row.sha256] = PublishableCertificate(
                row.delivery, row.sha256, bytes(row.der), *times, row.sha256 in gone, public, lost
            )
    return CertificateHolder(rows[0].address, rows[0].name, tuple(certificates.values()))


def _places(connection: Connection, rows: Sequence[Any]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for ids in engine.chunks(sorted({row.id for row in rows})):
        for who, what, place in connection.execute(
            select(publication.c.person, publication.c.certificate, publication.c.place).where(publication.c.person.in_(ids))
        ):
            found.setdefault((who, what), set()).add(place)
    return found


def note_published(tx: WriteTransaction, delivery_id: str, place: str, entry: str) -> None:
    """It is public there."""
    row, key = _key(tx, delivery_id, place)
    if not _is_known(tx, key):
        tx.connection.execute(insert(publication), {**key, "at": tx.now})
        _append(tx, "published", row, place, entry)


def note_unpublished(tx: WriteTransaction, delivery_id: str, place: str, entry: str, *, found: bool) -> None:
    """It is public there no more. `found`: it was, known or not."""
    row, key = _key(tx, delivery_id, place)
    if found or _is_known(tx, key):
        tx.connection.execute(delete(publication).where(*(publication.c[name] == value for name, value in key.items())))
        _append(tx, "unpublished", row, place, entry)


def _key(tx: WriteTransaction, delivery_id: str, place: str) -> tuple[transitions.Row, dict[str, str]]:
    row = transitions.row(tx, delivery_id)
    return row, {"person": row["person"], "certificate": row["certificate"], "place": place}


def _is_known(tx: WriteTransaction, key: dict[str, str]) -> bool:
    asked = select(publication.c.at).where(*(publication.c[name] == value for name, value in key.items()))
    return tx.connection.execute(asked).first() is not None


def _append(tx: WriteTransaction, name: str, row: transitions.Row, place: str, entry: str) -> None:
    address = tx.connection.execute(select(person.c.address).where(person.c.id == row["person"])).scalar_one()
    evidence = {"place": place, "certificate_sha256": row["certificate"]}
    tx.append([NewEvent(row["id"], name, None, None, evidence, {"address": address, "entry": entry})])


# --- revocation ----------------------------------------------------------------------------------------------------


CERTIFICATES_PAGE = 200  # certificates
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
        func.length(certificate.c.der) > 0,  # else it was erased with its person
        or_(select(delivery.c.id).where(_OF_IT, delivery.c.state.in_(_IN_USE)).exists(), _ON_HOLD.exists()),
    )
    .order_by(certificate.c.sha256)
    .limit(CERTIFICATES_PAGE)
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
        if len(page) < CERTIFICATES_PAGE:
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
    for chunk in engine.chunks(missing):
        asked = select(authority.c.sha256, authority.c.der).where(authority.c.sha256.in_(chunk))
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
