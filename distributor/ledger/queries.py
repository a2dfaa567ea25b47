"""What the ledger knows, read a page at a time: no reader holds up a writer for longer than a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    text,
)

from distributor.ledger import engine
from distributor.ledger.engine import Database
from distributor.ledger.lazy import late
from distributor.ledger.tables import IS_ARMING, IS_REMINDER, certificate, delivery, event, handover, head, outbox, person, plan
from distributor.model.audit_log import REMINDED, REMINDER_REFUSED, Event, canonical, format_timestamp, parse_timestamp
from distributor.model.clocks import LONGEST_DELAY, TOLERANCE, is_implausible
from distributor.model.delivery import Delivery, DeliveryFilter, SenderFilter
from distributor.model.states import PasswordState, State, Way

if TYPE_CHECKING:
    from distributor.ledger import certificate_owners
    from distributor.model.attempts import OutboundMessage
else:
    (certificate_owners,) = late("certificate_owners")

# --- filters --------------------------------------------------------------------------------
# A DeliveryFilter or SenderFilter -> conditions of a query over deliveries, the outbox or events.


_frozen_event = event.alias("frozen")


def freezes(one: FromClause = event) -> ColumnElement[bool]:
    """An event that stored a message. It names the sender and stays, while the outbox's row goes with a withdrawal, or with age."""
    return and_(one.c.event == State.QUEUED.value, one.c.before == State.PLANNED.value)


@cache
def _freezing(size: int) -> Select[Any]:
    return select(event.c.delivery, event.c.evidence).where(engine.one_of(event.c.delivery, size), freezes()).order_by(event.c.seq)


def senders_of(connection: Connection, ids: Sequence[str]) -> dict[str, str | None]:
    """The sender of each delivery that has, or had, a message."""
    return {id_: json.loads(evidence).get("sender") for id_, evidence in engine.rows_of(connection, _freezing, ids)}


_newer = delivery.alias("newer")
_REPLACED = exists().where(  # by a later generation
    _newer.c.person == delivery.c.person,
    _newer.c.certificate == delivery.c.certificate,
    _newer.c.way == delivery.c.way,
    _newer.c.generation > delivery.c.generation,
)
HAS_NEWER_COPY = _REPLACED.where(_newer.c.state != State.WITHDRAWN.value)


def within(asked: Select[Any], scope: DeliveryFilter) -> Select[Any]:
    """The query, restricted to what a command means; it must join `person`."""
    if scope.plan is not None:
        asked = asked.where(delivery.c.plan == scope.plan)
    if scope.way is not None:  # with the words of its index
        asked = asked.where(text("delivery.way = 'intune'") if scope.way is Way.INTUNE else delivery.c.way == scope.way.value)
    if scope.renewals:
        asked = asked.where(delivery.c.predecessor.is_not(None), ~_REPLACED)
    for column, values in ((person.c.key, scope.addresses), (delivery.c.id, scope.ids), (delivery.c.state, map(str, scope.states))):
        # one by one, so that a driver can run it
        words: list[BindParameter[str]] = [bindparam("one", value, unique=True) for value in sorted(values)]
        if words:
            asked = asked.where(column.in_(words))
    return asked


def of_senders(asked: Select[Any], senders: SenderFilter) -> Select[Any]:
    """The query, restricted to messages of some mailboxes; it must join `outbox`."""
    if senders.only is not None:
        asked = asked.where(outbox.c.sender == senders.only)
    if senders.without:
        asked = asked.where(outbox.c.sender.not_in(sorted(senders.without)))
    return asked


def events_of_senders(asked: Select[Any], senders: SenderFilter) -> Select[Any]:
    """A query over events, restricted to messages of some mailboxes, also of those whose message has gone."""
    if senders.only is None and not senders.without:
        return asked
    frozen = select(_frozen_event.c.seq).where(_frozen_event.c.delivery == event.c.delivery, freezes(_frozen_event))
    frozen = frozen.where(*(~_names(sender, _frozen_event) for sender in sorted(senders.without)))
    if senders.only is not None:
        frozen = frozen.where(_names(senders.only, _frozen_event))
    return asked.where(frozen.exists())


def _names(sender: str, one: FromClause) -> ColumnElement[bool]:
    # Canonical JSON: quotes inside a value are escaped, so only the key itself can match.
    return one.c.evidence.contains(canonical({"sender": sender})[1:-1], autoescape=True)


def wait_is_over(now: str) -> ColumnElement[bool]:
    """A message that was put off may be sent."""
    column = delivery.c.not_before
    return or_(column.is_(None), column <= now, column > latest_plausible(now, LONGEST_DELAY))


def is_due(now: str | None) -> ColumnElement[bool]:
    """A message waits to be sent, and may be; `now` is None: deferred ones before their time too."""
    deferred: ColumnElement[bool] = delivery.c.state == State.DEFERRED.value
    if now is not None:
        deferred = and_(deferred, wait_is_over(now))
    return or_(delivery.c.state == State.QUEUED.value, deferred)


def was_ahead(until: str | None, now: str, longest: timedelta) -> bool:
    """Whether a time in a row was written by a clock that was ahead."""
    return until is not None and is_implausible(parse_timestamp(until), parse_timestamp(now), longest)


def latest_plausible(now: str, longest: timedelta) -> str:
    """The latest time in a row that a clock which was right may have written."""
    return format_timestamp(parse_timestamp(now) + longest + TOLERANCE)


# --- deliveries and events -------------------------------------------------------------------------------------------

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
        *(delivery.c[n] for n in ("way", "series", "predecessor")),
    )
    .join(person, person.c.id == delivery.c.person)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
    .outerjoin(handover, handover.c.delivery == delivery.c.id)
)
_STATES = {state.value: state for state in State}
_WAYS = {way.value: way for way in Way}
_PASSWORD_STATES: dict[str | None, PasswordState | None] = {None: None, **{state.value: state for state in PasswordState}}


def to_delivery(row: Sequence[Any]) -> Delivery:
    """A delivery from a row of DELIVERIES."""
    (id_, address, name, language, generation, state, attempts, message_id, package, profile, said) = row[:11]
    (not_before, updated, plan_id, sha, serial, subject, not_after, channel, password, way, series, predecessor) = row[11:]
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
        _WAYS[way],
        series,
        predecessor,
    )


def deliveries(database: Database, scope: DeliveryFilter) -> Iterator[Delivery]:
    """Deliveries, oldest first."""
    return map(to_delivery, rows(database, scope))


def rows(database: Database, scope: DeliveryFilter) -> Iterator[tuple[Any, ...]]:
    """Deliveries as the database has them, in the order of Delivery's fields."""
    asked = _listing(scope.plan is not None, len(scope.addresses), len(scope.ids), scope.states, scope.way, renewals=scope.renewals)
    values = {"plan": scope.plan, "last": "", **_numbered("address", scope.addresses), **_numbered("id", scope.ids)}
    with database.reading() as connection:
        gone = certificate_owners.every(connection)
    found = engine.paged(database, asked, PAGE, values)
    yield from map(partial(_with_revocation, gone), found) if gone else found


_SAID, _SHA256 = 10, 14  # columns of DELIVERIES


def _with_revocation(gone: Mapping[str, str], row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A revocation stays the first word about a delivery, whatever a server says later."""
    why = gone.get(row[_SHA256])
    if why is None or (row[_SAID] or "").startswith(why):
        return row
    return (*row[:_SAID], f"{why}; {row[_SAID]}" if row[_SAID] else why, *row[_SAID + 1 :])


@lru_cache(maxsize=64)
def _listing(  # noqa: PLR0913  what a scope restricts
    one_plan: bool,  # noqa: FBT001
    addresses: int,
    ids: int,
    states: frozenset[State],
    way: Way | None,
    *,
    renewals: bool,
) -> Select[Any]:
    asked = within(DELIVERIES, DeliveryFilter(states=states, way=way, renewals=renewals)).where(delivery.c.id > bindparam("last"))
    asked = asked.order_by(delivery.c.id).limit(PAGE)
    if one_plan:
        asked = asked.where(delivery.c.plan == bindparam("plan"))
    for column, name, number in ((person.c.key, "address", addresses), (delivery.c.id, "id", ids)):
        if number:
            asked = asked.where(column.in_([bindparam(f"{name}_{i}") for i in range(number)]))
    return asked


def _numbered(name: str, values: Iterable[str]) -> dict[str, str]:
    return {f"{name}_{i}": value for i, value in enumerate(values)}


def by_ids(connection: Connection, ids: Sequence[str]) -> dict[str, Delivery]:
    """Deliveries by id."""
    asked = (DELIVERIES.where(delivery.c.id.in_(chunk)) for chunk in engine.chunks(ids))
    return {row[0]: to_delivery(row) for each in asked for row in connection.execute(each)}


def end(connection: Connection) -> tuple[int, str]:
    """Number and time of the last event; 0 and the empty text where there is none."""
    row = connection.execute(select(head.c.seq, head.c.at).where(head.c.id == 1)).one_or_none()
    return (0, "") if row is None else (int(row.seq), str(row.at))  # its row is missing: verification says so


def counts(connection: Connection, scope: DeliveryFilter) -> dict[State, int]:
    """Deliveries by state, in the order of the states."""
    if scope.way is Way.MAIL:  # all but the others, of which there is an index
        every, others = (counts(connection, replace(scope, way=way)) for way in (None, Way.INTUNE))
        return {state: left for state, number in every.items() if (left := number - others.get(state, 0))}
    asked: Select[Any] = select(delivery.c.state, func.count()).group_by(delivery.c.state)
    if scope.addresses:
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
    .where(is_due(None), delivery.c.id > bindparam("last"), certificate.c.not_after > bindparam("now"))
    .order_by(delivery.c.id)
    .limit(MESSAGES)
)


def messages(database: Database, scope: DeliveryFilter, now: str) -> Iterator[OutboundMessage]:
    """Frozen messages that wait to be sent, and whose certificate has not expired."""
    from distributor.model.attempts import OutboundMessage  # noqa: PLC0415  most commands list no messages

    return (OutboundMessage(*row) for row in engine.paged(database, within(_MESSAGES, scope), MESSAGES, {"last": "", "now": now}))


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
    return map(to_event, engine.paged(database, _HISTORY, PAGE, {"address": address, "last": 0}))


def to_event(row: Sequence[Any]) -> Event:
    """An event from its columns, personal fields opened."""
    seq, at, delivery_id, name, before, after, by, evidence, personal = row
    opened = json.loads(evidence) | (json.loads(personal) if personal else {})
    return Event(seq, parse_timestamp(at), delivery_id, name, before and _STATES[before], after and _STATES[after], by, opened)


# --- mailboxes --------------------------------------------------------------------------------
# Messages due for each mailbox, and when messages left through it.


_UNSENT = [state.value for state in (State.DEFERRED, State.REJECTED, State.QUEUED)]  # a definite no to an attempt
_later = event.alias("later")
_OUTCOME = (  # of an attempt: the next step of its delivery; notes between have no `before`
    select(_later.c.after)
    .where(_later.c.delivery == event.c.delivery, _later.c.seq > event.c.seq, _later.c.before == State.TRANSMITTING.value)
    .order_by(_later.c.seq)
    .limit(1)
    .scalar_subquery()
)


def sent_times(connection: Connection, since: str, now: str, senders: SenderFilter) -> list[str]:
    """When messages were on their way and may have left, earliest first, also of those that were withdrawn since."""
    asked = select(event.c.at, event.c.seq).where(IS_ARMING, event.c.at >= since, func.coalesce(_OUTCOME, "").not_in(_UNSENT))
    asked = asked.where(exists().where(delivery.c.id == event.c.delivery, delivery.c.way == Way.MAIL.value))
    found = [*connection.execute(events_of_senders(asked, senders)), *connection.execute(_reminders(since, senders))]
    wrong = [seq for at, seq in found if at > now]
    times = [at for at, _ in found if at <= now]
    if wrong and (until := _known_again(connection, max(wrong), now)) >= since:
        times += [until] * len(wrong)
    return sorted(times)


_refused = event.alias("refused")
_IS_REFUSED = select(_refused.c.seq).where(  # the answer to a reminder names its message
    _refused.c.delivery == event.c.delivery,
    _refused.c.event == REMINDER_REFUSED,
    _refused.c.seq > event.c.seq,
    _refused.c.evidence == event.c.evidence,
)


def _reminders(since: str, senders: SenderFilter) -> Select[Any]:
    """Reminders of some mailboxes that may have left."""
    asked = select(event.c.at, event.c.seq).where(IS_REMINDER, event.c.event == REMINDED, event.c.at >= since, ~_IS_REFUSED.exists())
    asked = asked.where(*(~_names(sender, event) for sender in sorted(senders.without)))
    return asked if senders.only is None else asked.where(_names(senders.only, event))


def _known_again(connection: Connection, seq: int, now: str) -> str:
    """Before which time the events up to `seq` were written, whose clock was ahead: that of the next event with a good time."""
    good = select(event.c.at).where(event.c.seq > seq, event.c.at <= now).order_by(event.c.seq).limit(1)
    return connection.execute(good).scalar_one_or_none() or now


def has_pending(connection: Connection, scope: DeliveryFilter, senders: SenderFilter, now: str | None) -> bool:
    """Whether a message is due, claimed and not on its way, or being packed; `now` is None: deferred ones before their time too."""
    waits = or_(is_due(now), delivery.c.state == State.CLAIMED.value)
    frozen = of_senders(within(_joined_outbox(select(literal(1))), scope), senders).where(waits)
    packing = within(select(literal(1)).select_from(delivery).join(person, person.c.id == delivery.c.person), scope).where(
        delivery.c.state == State.PLANNED.value, delivery.c.owner.is_not(None)
    )
    return any(connection.execute(asked.limit(1)).first() is not None for asked in (frozen, packing))


def due_by_sender(connection: Connection, scope: DeliveryFilter, now: str | None) -> dict[str, int]:
    """How many messages are due, by sender."""
    asked = within(_joined_outbox(select(outbox.c.sender, func.count())), scope).where(is_due(now)).group_by(outbox.c.sender)
    return {str(sender): int(number) for sender, number in connection.execute(asked)}


def _joined_outbox(asked: Select[Any]) -> Select[Any]:
    return asked.select_from(delivery).join(outbox, outbox.c.delivery == delivery.c.id).join(person, person.c.id == delivery.c.person)
