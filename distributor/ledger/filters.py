"""A Scope or Senders -> conditions of a query over deliveries joined with people, or with the outbox."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, Select, bindparam

from distributor.ledger.tables import delivery, outbox, person
from distributor.model.delivery import DeliveryFilter, SenderFilter


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
