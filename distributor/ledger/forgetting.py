"""Erases a person from the ledger: what it knows of them goes, the chain of events still verifies.

An event `erased` of each of their deliveries lists the events that lost their personal fields, and says what has to be in the rows since.
Certificates keep their hash, serial number, issuer and end, since those stand in events.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select, update

from distributor.errors import RequestDenied, UsageError
from distributor.ledger import transitions
from distributor.ledger.engine import ERASED as SECRET_GONE
from distributor.ledger.person_projection import erased_row
from distributor.ledger.projection import ERASED_LOCATOR
from distributor.ledger.tables import account, certificate, delivery, event, handover, outbox, person, publication, request, session
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import ERASED
from distributor.model.requests import ErasedPerson
from distributor.model.states import PasswordState, State

UNDER_WAY = frozenset({State.PLANNED, State.QUEUED, State.CLAIMED, State.TRANSMITTING, State.DEFERRED, State.AMBIGUOUS})
_PERSON = select(person.c.id, person.c.key, person.c.address, person.c.name).where(person.c.key == bindparam("address"))
_DELIVERIES = (
    select(delivery.c.id, delivery.c.state, delivery.c.certificate, handover.c.state)
    .outerjoin(handover, handover.c.delivery == delivery.c.id)
    .where(delivery.c.person == bindparam("person"))
    .order_by(delivery.c.id)
)
_EVENTS = select(event.c.seq).where(event.c.delivery == bindparam("delivery"), event.c.personal.is_not(None)).order_by(event.c.seq)
_PLACES = select(publication.c.place).where(publication.c.person == bindparam("person")).distinct().order_by(publication.c.place)
_OTHERS = select(delivery.c.id).where(delivery.c.certificate == bindparam("certificate"), delivery.c.person != bindparam("person")).limit(1)
_KEPT = select(certificate.c.not_before, certificate.c.key_sha256).where(certificate.c.sha256 == bindparam("certificate"))
_OPEN = frozenset({PasswordState.HELD.value, PasswordState.READY.value})


class _Delivery(NamedTuple):
    id: str
    state: str
    certificate: str
    password: str | None


class _Person(NamedTuple):
    id: str
    key: str
    address: str
    name: str


def preview(connection: Connection, address: str) -> ErasedPerson:
    """What erasing a person takes away. Raises UsageError where there is nobody, RequestDenied where something is still under way."""
    who, deliveries = _found(connection, address)
    numbers = {one.id: _events(connection, one.id) for one in deliveries}
    return _summary(connection, who, deliveries, sum(map(len, numbers.values())))


def forget(tx: WriteTransaction, address: str, reason: str) -> ErasedPerson:
    """Erase a person. Raises as `preview`, and UsageError where the reason names the person."""
    connection = tx.connection
    who, deliveries = _found(connection, address)
    if any(word and word.casefold() in reason.casefold() for word in (who.key, who.address, who.name)):
        raise UsageError("the reason names the person, and it is kept", where=address, hint="refer to a ticket instead")
    numbers = {one.id: _events(connection, one.id) for one in deliveries}
    found = _summary(connection, who, deliveries, sum(map(len, numbers.values())))
    subjects = list(connection.execute(select(account.c.subject).where(account.c.person == who.id)).scalars())
    transitions.close_passwords(tx, list(numbers), PasswordState.DESTROYED)
    emptied = {one.certificate: _empty(connection, who, one.certificate) for one in deliveries}
    words = sanitize(reason)
    tx.append(
        [NewEvent(one.id, ERASED, evidence={"events": numbers[one.id], "reason": words, **emptied[one.certificate]}) for one in deliveries]
    )
    _erase_rows(connection, who, subjects)
    connection.info[SECRET_GONE] = True
    return found


def _found(connection: Connection, address: str) -> tuple[_Person, list[_Delivery]]:
    row = connection.execute(_PERSON, {"address": address}).one_or_none()
    if row is None:
        raise UsageError("nobody in the ledger has this address", where=address, hint="`distributor status` lists all deliveries")
    who = _Person(*row)
    deliveries = [_Delivery(*one) for one in connection.execute(_DELIVERIES, {"person": who.id})]
    waiting = [one for one in deliveries if one.state in UNDER_WAY]
    if waiting:
        one = waiting[0]
        way = f"distributor resolve {one.id}" if one.state == State.AMBIGUOUS else f"distributor withdraw {one.id} --reason TEXT"
        raise RequestDenied(f"a delivery is still {one.state} ({one.id})", where=address, hint=f"run `{way}` first")
    places = list(connection.execute(_PLACES, {"person": who.id}).scalars())
    if places:
        hint = "have it revoked; then `distributor trust watch` and `distributor publish` remove it there"
        raise RequestDenied(f'a certificate is still published at "{places[0][:80]}"', where=address, hint=hint)
    return who, deliveries


def _events(connection: Connection, delivery_id: str) -> list[int]:
    return list(connection.execute(_EVENTS, {"delivery": delivery_id}).scalars())


def _summary(connection: Connection, who: _Person, deliveries: Sequence[_Delivery], events: int) -> ErasedPerson:
    accounts = connection.execute(select(func.count()).select_from(account).where(account.c.person == who.id)).scalar_one()
    passwords = sum(one.password in _OPEN for one in deliveries)
    return ErasedPerson(who.address, len(deliveries), events, len({one.certificate for one in deliveries}), passwords, accounts)


def _empty(connection: Connection, who: _Person, sha256: str) -> dict[str, object]:
    """Take a certificate's bytes and subject away, unless somebody else has a delivery of it; what its event says of that."""
    values = {"certificate": sha256, "person": who.id}
    if connection.execute(_OTHERS, values).first() is not None:
        return {}
    not_before, key = connection.execute(_KEPT, values).one()
    connection.execute(update(certificate).where(certificate.c.sha256 == sha256).values(der=b"", subject=""))
    return {"certificate_sha256": sha256, "certificate_not_before": not_before, "certificate_key_sha256": key}


def _erase_rows(connection: Connection, who: _Person, subjects: Sequence[str]) -> None:
    theirs = select(delivery.c.id).where(delivery.c.person == who.id)
    connection.execute(update(event).where(event.c.delivery.in_(theirs), event.c.personal.is_not(None)).values(personal=None, salt=None))
    connection.execute(delete(outbox).where(outbox.c.delivery.in_(theirs)))
    connection.execute(update(delivery).where(delivery.c.person == who.id).values(locator=ERASED_LOCATOR, said=None))
    connection.execute(update(request).where(request.c.delivery.in_(theirs)).values(reason="", answer=""))
    connection.execute(delete(account).where(account.c.person == who.id))
    tokens = [token for token, data in connection.execute(select(session.c.token, session.c.data)) if _is_theirs(data, who, subjects)]
    for token in tokens:
        connection.execute(delete(session).where(session.c.token == token))
    connection.execute(update(person).where(person.c.id == who.id).values(**erased_row(who.id)))


def _is_theirs(data: str, who: _Person, subjects: Sequence[str]) -> bool:
    """Whether a session of the portal is the person's, by address or account."""
    values: Any = None
    with suppress(ValueError):
        values = json.loads(data)
    texts = set(_texts(values))
    return not texts.isdisjoint({who.key, who.address, *subjects})


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    return [text for one in value for text in _texts(one)] if isinstance(value, list) else []
