"""What the ledger knows, read a page at a time: no reader holds up a writer for longer than a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from distributor.errors import RequestDenied
from distributor.ledger import revoked, statements
from distributor.ledger.engine import Database
from distributor.ledger.filters import of_senders, within
from distributor.ledger.tables import certificate, delivery, event, handover, head, outbox, person, plan
from distributor.model.audit_log import parse_timestamp
from distributor.model.certificates import Locator
from distributor.model.delivery import Delivery, DeliveryFilter, SenderFilter
from distributor.model.events import Event
from distributor.model.outcomes import OutboundMessage
from distributor.model.states import PasswordState, State

PAGE = 2000  # deliveries or events
MESSAGES = 50  # a message has about 14 KB
DELIVERIES = (
    select(
        delivery.c.id,
        person.c.address,
        person.c.name,
        *(delivery.c[n] for n in ("language", "generation", "state", "attempt", "message_id", "package_sha256", "profile", "said")),
        *(delivery.c[n] for n in ("not_before", "updated_at", "plan", "certificate")),
        *(certificate.c[n] for n in ("serial", "subject", "not_after")),
        handover.c.channel,
        handover.c.state,
    )
    .join(person, person.c.id == delivery.c.person)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
    .outerjoin(handover, handover.c.delivery == delivery.c.id)
)
_STATES = {state.value: state for state in State}
_PASSWORD_STATES: dict[str | None, PasswordState | None] = {None: None, **{state.value: state for state in PasswordState}}


def to_delivery(row: Sequence[Any]) -> Delivery:
    """A delivery from a row of DELIVERIES."""
    (id_, address, name, language, generation, state, attempts, message_id, package, profile, said) = row[:11]
    (not_before, updated, plan_id, sha, serial, subject, not_after, channel, password) = row[11:]
    return Delivery(
        id_,
        address,
        name,
        language,
        generation,
        _STATES[state],
        attempts,
        message_id,
        package,
        profile,
        said,
        None if not_before is None else parse_timestamp(not_before),
        parse_timestamp(updated),
        plan_id,
        sha,
        serial,
        subject,
        parse_timestamp(not_after),
        channel,
        _PASSWORD_STATES[password],
    )


def deliveries(database: Database, scope: DeliveryFilter) -> Iterator[Delivery]:
    """Deliveries, oldest first."""
    return map(to_delivery, rows(database, scope))


def rows(database: Database, scope: DeliveryFilter) -> Iterator[tuple[Any, ...]]:
    """Deliveries as the database has them, in the order of Delivery's fields."""
    asked = _listing(scope.plan is not None, scope.address is not None, scope.states)
    values = {"plan": scope.plan, "address": scope.address, "last": ""}
    with database.reading() as connection:
        gone = revoked.every(connection)
    while True:
        with database.reading() as connection:
            page = statements.all_rows(connection, asked, values)
        yield from map(partial(_with_revocation, gone), page) if gone else page
        if len(page) < PAGE:
            return
        values["last"] = page[-1][0]


_SAID, _SHA256 = 10, 14  # columns of DELIVERIES


def _with_revocation(gone: Mapping[str, str], row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A revocation stays the first word about a delivery, whatever a server says later."""
    why = gone.get(row[_SHA256])
    if why is None or (row[_SAID] or "").startswith(why):
        return row
    return (*row[:_SAID], f"{why}; {row[_SAID]}" if row[_SAID] else why, *row[_SAID + 1 :])


@lru_cache(maxsize=64)
def _listing(one_plan: bool, one_person: bool, states: frozenset[State]) -> Select[Any]:  # noqa: FBT001  what a scope restricts
    asked = within(DELIVERIES, DeliveryFilter(states=states)).where(delivery.c.id > bindparam("last")).order_by(delivery.c.id).limit(PAGE)
    if one_plan:
        asked = asked.where(delivery.c.plan == bindparam("plan"))
    return asked.where(person.c.key == bindparam("address")) if one_person else asked


def by_ids(connection: Connection, ids: Sequence[str]) -> dict[str, Delivery]:
    """Deliveries by id."""
    found: dict[str, Delivery] = {}
    for start in range(0, len(ids), 500):
        rows = connection.execute(DELIVERIES.where(delivery.c.id.in_(ids[start : start + 500]))).all()
        found |= {row[0]: to_delivery(row) for row in rows}
    return found


def end(connection: Connection) -> tuple[int, str]:
    """Number and time of the last event; 0 and the empty text where there is none."""
    seq, at = connection.execute(select(head.c.seq, head.c.at).where(head.c.id == 1)).one()
    return int(seq), str(at)


def counts(connection: Connection, scope: DeliveryFilter) -> dict[State, int]:
    """Deliveries by state, in the order of the states."""
    asked: Select[Any] = select(delivery.c.state, func.count()).group_by(delivery.c.state)
    if scope.address is not None:
        asked = asked.join(person, person.c.id == delivery.c.person)
    found: dict[str, int] = dict(connection.execute(within(asked, scope)).all())
    return {state: found[state.value] for state in State if state.value in found}


def next_due(connection: Connection, scope: DeliveryFilter, senders: SenderFilter) -> str | None:
    """When the first deferred delivery is due."""
    asked: Select[Any] = (
        select(func.min(delivery.c.not_before))
        .join(person, person.c.id == delivery.c.person)
        .join(outbox, outbox.c.delivery == delivery.c.id)
        .where(delivery.c.state == State.DEFERRED.value)
    )
    found = connection.execute(of_senders(within(asked, scope), senders)).scalar_one()
    return None if found is None else str(found)


_MESSAGES = (
    select(delivery.c.id, outbox.c.sender, outbox.c.address, outbox.c.message_id, outbox.c.message)
    .join(outbox, outbox.c.delivery == delivery.c.id)
    .join(person, person.c.id == delivery.c.person)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
    .where(delivery.c.state.in_((State.QUEUED.value, State.DEFERRED.value)), delivery.c.id > bindparam("last"))
    .where(certificate.c.not_after > bindparam("now"))
    .order_by(delivery.c.id)
    .limit(MESSAGES)
)


def messages(database: Database, scope: DeliveryFilter, now: str) -> Iterator[OutboundMessage]:
    """Frozen messages that wait to be sent, and whose certificate has not expired."""
    asked, last = within(_MESSAGES, scope), ""
    while True:
        with database.reading() as connection:
            page = connection.execute(asked, {"last": last, "now": now}).all()
        yield from (OutboundMessage(*row) for row in page)
        if len(page) < MESSAGES:
            return
        last = page[-1][0]


def locator(connection: Connection, delivery_id: str) -> tuple[str, Locator]:
    """Plan and locator of a delivery."""
    row = connection.execute(select(delivery.c.plan, delivery.c.locator).where(delivery.c.id == delivery_id)).one_or_none()
    if row is None:
        raise RequestDenied("there is no such delivery", where=delivery_id, hint="`distributor status` lists them")
    return row.plan, Locator.from_json(json.loads(row.locator))


def plan_inputs(connection: Connection, name: str) -> dict[str, object] | None:
    """What a plan was made from."""
    found = connection.execute(select(plan.c.inputs).where(plan.c.id == name)).scalar_one_or_none()
    return None if found is None else dict(json.loads(found))


_HISTORY = (
    select(*(event.c[n] for n in ("seq", "at", "delivery", "event", "before", "after", "by", "evidence", "personal")))
    .join(delivery, delivery.c.id == event.c.delivery)
    .join(person, person.c.id == delivery.c.person)
    .where(person.c.key == bindparam("address"), event.c.seq > bindparam("last"))
    .order_by(event.c.seq)
    .limit(PAGE)
)


def history(database: Database, address: str) -> Iterator[Event]:
    """Everything that happened to a person's deliveries."""
    last = 0
    while True:
        with database.reading() as connection:
            page = connection.execute(_HISTORY, {"address": address, "last": last}).all()
        yield from map(to_event, page)
        if len(page) < PAGE:
            return
        last = page[-1][0]


def to_event(row: Sequence[Any]) -> Event:
    """An event from its columns, personal fields opened."""
    seq, at, delivery_id, name, before, after, by, evidence, personal = row
    opened = json.loads(evidence) | (json.loads(personal) if personal else {})
    return Event(seq, parse_timestamp(at), delivery_id, name, before and _STATES[before], after and _STATES[after], by, opened)
