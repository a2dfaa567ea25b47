"""Who received certificates, and where they are public."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from distributor.errors import InvalidInput
from distributor.ledger import certificate_owners, transitions
from distributor.ledger.engine import Database
from distributor.ledger.tables import certificate, delivery, event, person, publication
from distributor.ledger.transaction import NewEvent, WriteTransaction
from distributor.model.audit_log import parse_timestamp
from distributor.model.certificates import CertificateHolder, PublishableCertificate
from distributor.model.states import RECEIVED, State

PAGE = 200  # people; their certificates come with them
_RECEIVED = frozenset(state.value for state in RECEIVED)
_PEOPLE = select(person.c.id).where(person.c.id > bindparam("last")).order_by(person.c.id).limit(PAGE)
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
    .where(person.c.id > bindparam("last"), person.c.id <= bindparam("until"))
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
        if len(ids) < PAGE:
            return
        last = ids[-1]


def _page(connection: Connection, last: str, until: str) -> list[CertificateHolder]:
    rows = connection.execute(_THEIRS, {"last": last, "until": until}).all()
    _refuse_changed(connection, rows)
    gone = frozenset(certificate_owners.revoked(connection, (row.sha256 for row in rows)))
    places = _places(connection, rows)
    found = (_holder(list(theirs), gone, places) for _, theirs in groupby(rows, key=lambda row: row.id))
    return [holder for holder in found if holder.certificates]


def _refuse_changed(connection: Connection, rows: Sequence[Any]) -> None:
    """Raise InvalidInput where a certificate is not the one that a delivery was planned with: others would encrypt to a stranger."""
    planned: dict[str, str] = {}
    for ids in _chunks([row.delivery for row in rows]):
        asked = select(event.c.delivery, event.c.evidence).where(event.c.delivery.in_(ids), event.c.event == State.PLANNED.value)
        for id_, evidence in connection.execute(asked.order_by(event.c.seq.desc())):
            planned[id_] = json.loads(evidence).get("certificate_sha256", planned.get(id_, ""))
    for row in rows:
        if planned.get(row.delivery) != row.sha256 or sha256(row.der).hexdigest() != row.sha256:
            message = "the ledger was changed from outside (certificate), so nothing is published"
            raise InvalidInput(message, where=row.delivery, hint="`distributor audit verify` says what was changed")


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
    for ids in _chunks(sorted({row.id for row in rows})):
        for who, what, place in connection.execute(
            select(publication.c.person, publication.c.certificate, publication.c.place).where(publication.c.person.in_(ids))
        ):
            found.setdefault((who, what), set()).add(place)
    return found


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + transitions.CHUNK] for start in range(0, len(ids), transitions.CHUNK))


def note(tx: WriteTransaction, delivery_id: str, place: str, entry: str) -> None:
    """It is public there."""
    row, key = _key(tx, delivery_id, place)
    if not _is_known(tx, key):
        tx.connection.execute(insert(publication), {**key, "at": tx.now})
        _append(tx, "published", row, place, entry)


def note_gone(tx: WriteTransaction, delivery_id: str, place: str, entry: str, *, found: bool) -> None:
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
