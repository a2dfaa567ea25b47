"""Certificates that were planned or sent, for those who ask whether they still hold; and what is written when one does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from distributor.core.chain import stamp
from distributor.core.publishing import REVOKED
from distributor.core.revoking import IN_USE, Issued, Struck
from distributor.core.states import REMAINING, State
from distributor.ledger import book as door
from distributor.ledger.chain import Note, Writing, words
from distributor.ledger.database import Database
from distributor.ledger.tables import authority, certificate, delivery, event, person

PAGE = 200  # certificates
_IN_USE = sorted(state.value for state in IN_USE)
_ISSUED = (
    select(certificate.c.sha256, certificate.c.der, certificate.c.chain)
    .where(
        certificate.c.sha256 > bindparam("last"),
        certificate.c.not_after > bindparam("now"),
        select(delivery.c.id).where(delivery.c.certificate == certificate.c.sha256, delivery.c.state.in_(_IN_USE)).exists(),
    )
    .order_by(certificate.c.sha256)
    .limit(PAGE)
)
_THEIRS = (
    select(delivery.c.id, person.c.address)
    .join(person, person.c.id == delivery.c.person)
    .where(delivery.c.certificate == bindparam("certificate"), delivery.c.state.in_(_IN_USE))
    .order_by(delivery.c.id)
)
_SAY = update(delivery).where(delivery.c.id == bindparam("b_id")).values(said=bindparam("words"))


def issued(database: Database, now: datetime) -> Iterator[Issued]:
    """Every certificate in use, by its hash."""
    above: dict[str, bytes] = {}
    last = ""
    while True:
        with database.reading() as connection:
            page = connection.execute(_ISSUED, {"last": last, "now": stamp(now)}).all()
            chains = [json.loads(row.chain) for row in page]
            _learn(connection, above, {sha for chain in chains for sha in chain})
        for row, chain in zip(page, chains, strict=True):
            yield Issued(row.sha256, bytes(row.der), tuple(above[sha] for sha in chain))
        if len(page) < PAGE:
            return
        last = page[-1].sha256


def _learn(connection: Connection, above: dict[str, bytes], wanted: set[str]) -> None:
    """Authorities that were not met before."""
    missing = sorted(wanted - set(above))
    for start in range(0, len(missing), door.CHUNK):
        asked = select(authority.c.sha256, authority.c.der).where(authority.c.sha256.in_(missing[start : start + door.CHUNK]))
        above |= {sha: bytes(der) for sha, der in connection.execute(asked)}


def revoke(book: Writing, certificate_sha256: str, said: str) -> list[Struck]:
    """Its deliveries are told, each once; what has not left is withdrawn, also when it comes back from a sender later."""
    addresses: dict[str, str] = dict(book.connection.execute(_THEIRS, {"certificate": certificate_sha256}).all())
    told = _told(book, list(addresses))
    rows = door.rows(book, list(addresses))
    new = [rows[id_] for id_ in addresses if id_ not in told]
    unsent = [rows[id_] for id_ in addresses if State(rows[id_]["state"]) in REMAINING]
    evidence = {"certificate_sha256": certificate_sha256, "said": words(said)}
    book.append([Note(row["id"], REVOKED, None, None, evidence) for row in new])
    if addresses:
        book.many(_SAY, [{"b_id": id_, "words": words(said)} for id_ in addresses])
    columns = {"owner": None, "lease_until": None, "armed_at": None, "not_before": None, "said": words(said)}
    door.move(
        book,
        [door.Change(row, State.WITHDRAWN, columns, {"certificate_sha256": certificate_sha256}, {"reason": words(said)}) for row in unsent],
    )
    gone = {row["id"] for row in unsent}
    touched = gone | {row["id"] for row in new}
    return [
        Struck(id_, address, State(rows[id_]["state"]), State.WITHDRAWN if id_ in gone else State(rows[id_]["state"]), words(said))
        for id_, address in addresses.items()
        if id_ in touched
    ]


def _told(book: Writing, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), door.CHUNK):
        asked = select(event.c.delivery).where(event.c.delivery.in_(ids[start : start + door.CHUNK]), event.c.event == REVOKED)
        found |= set(book.connection.execute(asked).scalars())
    return found
