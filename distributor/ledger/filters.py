"""A DeliveryFilter or SenderFilter -> conditions of a query over deliveries, the outbox or events."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, select

from distributor.ledger.tables import delivery, event, outbox, person
from distributor.model.audit_log import canonical
from distributor.model.delivery import DeliveryFilter, SenderFilter
from distributor.model.states import State

_frozen = event.alias("frozen")


def within(asked: Select[Any], scope: DeliveryFilter) -> Select[Any]:
    """The query, restricted to what a command means; it must join `person`."""
    if scope.plan is not None:
        asked = asked.where(delivery.c.plan == scope.plan)
    if scope.address is not None:
        asked = asked.where(person.c.key == scope.address)
    if scope.states:
        words: list[BindParameter[str]] = [
            bindparam("state", state.value, unique=True) for state in sorted(scope.states)
        ]  # one by one, so that a driver can run it
        asked = asked.where(delivery.c.state.in_(words))
    return asked


def of_senders(asked: Select[Any], senders: SenderFilter) -> Select[Any]:
    """The query, restricted to messages of some mailboxes; it must join `outbox`."""
    if senders.only is not None:
        asked = asked.where(outbox.c.sender == senders.only)
    if senders.without:
        asked = asked.where(outbox.c.sender.not_in(sorted(senders.without)))
    return asked


def events_of_senders(asked: Select[Any], senders: SenderFilter) -> Select[Any]:
    """A query over events, restricted to messages of some mailboxes.

    The event that froze a message names its sender. It is never removed, as a message in the outbox is: by a withdrawal, or by age.
    """
    if senders.only is None and not senders.without:
        return asked
    frozen = select(_frozen.c.seq).where(_frozen.c.delivery == event.c.delivery, _frozen.c.event == State.QUEUED.value)
    frozen = frozen.where(_frozen.c.before == State.PLANNED.value, *(~_names(sender) for sender in sorted(senders.without)))
    if senders.only is not None:
        frozen = frozen.where(_names(senders.only))
    return asked.where(frozen.exists())


def _names(sender: str) -> ColumnElement[bool]:
    # Canonical JSON: quotes inside a value are escaped, so only the key itself can match.
    return _frozen.c.evidence.contains(canonical({"sender": sender})[1:-1], autoescape=True)
