"""What waits for mailboxes, and what left through them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal, or_, select

from distributor.core.deliveries import Scope, Senders
from distributor.core.states import State
from distributor.ledger.scope import of_senders, within
from distributor.ledger.tables import delivery, event, outbox, person

_UNSENT = [state.value for state in (State.DEFERRED, State.REJECTED, State.QUEUED)]  # a definite no to an attempt
_later = event.alias("later")
_OUTCOME = (  # of an attempt: the next step of its delivery; notes between have no `before`
    select(_later.c.after)
    .where(_later.c.delivery == event.c.delivery, _later.c.seq > event.c.seq, _later.c.before == State.TRANSMITTING.value)
    .order_by(_later.c.seq)
    .limit(1)
    .scalar_subquery()
)


def armed(connection: Connection, since: str, senders: Senders) -> list[str]:
    """When letters were on their way and may have left; an outbox keeps letters longer than anybody asks for.

    Events are in the order of their time, so that only those since then are read.
    """
    before = select(event.c.seq).where(event.c.at < since).order_by(event.c.seq.desc()).limit(1)
    last = connection.execute(before).scalar_one_or_none() or 0
    asked: Select[Any] = (
        select(event.c.at)
        .join(outbox, outbox.c.delivery == event.c.delivery)
        .where(event.c.seq > last, event.c.event == State.TRANSMITTING.value, func.coalesce(_OUTCOME, "").not_in(_UNSENT))
        .order_by(event.c.seq)
    )
    return list(connection.execute(of_senders(asked, senders)).scalars())


def any_left(connection: Connection, scope: Scope, senders: Senders, now: str | None) -> bool:
    """Whether a letter is due, claimed and not on its way, or being packed; `now` is None: deferred ones before their time too."""
    waits = or_(_is_due(now), delivery.c.state == State.CLAIMED.value)
    frozen = of_senders(within(_frozen(select(literal(1))), scope), senders).where(waits)
    lent = within(select(literal(1)).select_from(delivery).join(person, person.c.id == delivery.c.person), scope).where(
        delivery.c.state == State.PLANNED.value, delivery.c.owner.is_not(None)
    )
    return any(connection.execute(asked.limit(1)).first() is not None for asked in (frozen, lent))


def due(connection: Connection, scope: Scope, now: str | None) -> dict[str, int]:
    """How many letters are due, by sender."""
    asked = within(_frozen(select(outbox.c.sender, func.count())), scope).where(_is_due(now)).group_by(outbox.c.sender)
    return {str(sender): int(number) for sender, number in connection.execute(asked)}


def _frozen(asked: Select[Any]) -> Select[Any]:
    return asked.select_from(delivery).join(outbox, outbox.c.delivery == delivery.c.id).join(person, person.c.id == delivery.c.person)


def _is_due(now: str | None) -> ColumnElement[bool]:
    deferred: ColumnElement[bool] = delivery.c.state == State.DEFERRED.value
    if now is not None:
        deferred = and_(deferred, or_(delivery.c.not_before.is_(None), delivery.c.not_before <= now))
    return or_(delivery.c.state == State.QUEUED.value, deferred)
