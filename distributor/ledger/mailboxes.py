"""Messages due for each mailbox, and when messages left through it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal, or_, select

from distributor.ledger import clock
from distributor.ledger.filters import events_of_senders, of_senders, within
from distributor.ledger.tables import IS_ARMING, delivery, event, outbox, person
from distributor.model.delivery import DeliveryFilter, SenderFilter
from distributor.model.states import State

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
    found = connection.execute(events_of_senders(asked, senders)).all()
    wrong = [seq for at, seq in found if at > now]
    times = [at for at, _ in found if at <= now]
    if wrong and (until := _known_again(connection, max(wrong), now)) >= since:
        times += [until] * len(wrong)
    return sorted(times)


def _known_again(connection: Connection, seq: int, now: str) -> str:
    """Before which time the events up to `seq` were written, whose clock was ahead: that of the next event with a good time."""
    good = select(event.c.at).where(event.c.seq > seq, event.c.at <= now).order_by(event.c.seq).limit(1)
    return connection.execute(good).scalar_one_or_none() or now


def has_pending(connection: Connection, scope: DeliveryFilter, senders: SenderFilter, now: str | None) -> bool:
    """Whether a message is due, claimed and not on its way, or being packed; `now` is None: deferred ones before their time too."""
    waits = or_(_is_due(now), delivery.c.state == State.CLAIMED.value)
    frozen = of_senders(within(_frozen(select(literal(1))), scope), senders).where(waits)
    packing = within(select(literal(1)).select_from(delivery).join(person, person.c.id == delivery.c.person), scope).where(
        delivery.c.state == State.PLANNED.value, delivery.c.owner.is_not(None)
    )
    return any(connection.execute(asked.limit(1)).first() is not None for asked in (frozen, packing))


def due(connection: Connection, scope: DeliveryFilter, now: str | None) -> dict[str, int]:
    """How many messages are due, by sender."""
    asked = within(_frozen(select(outbox.c.sender, func.count())), scope).where(_is_due(now)).group_by(outbox.c.sender)
    return {str(sender): int(number) for sender, number in connection.execute(asked)}


def _frozen(asked: Select[Any]) -> Select[Any]:
    return asked.select_from(delivery).join(outbox, outbox.c.delivery == delivery.c.id).join(person, person.c.id == delivery.c.person)


def _is_due(now: str | None) -> ColumnElement[bool]:
    deferred: ColumnElement[bool] = delivery.c.state == State.DEFERRED.value
    if now is not None:
        deferred = and_(deferred, clock.due(now))
    return or_(delivery.c.state == State.QUEUED.value, deferred)
