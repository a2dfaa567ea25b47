"""Recovers expired leases: a claim without a recorded intent is queued again, one with it becomes ambiguous."""

from __future__ import annotations

from collections.abc import Callable

from distributor.model.delivery import LeaseHolder
from distributor.model.ports import Ledger
from distributor.model.states import State
from distributor.workflows.sending.report import DeliveryResult

UNCLEAR = "its sender ended while the message was being sent"


def recover(ledger: Ledger, alive: Callable[[LeaseHolder], bool | None]) -> tuple[int, list[DeliveryResult]]:
    """How many messages are due again, and those that are ambiguous from now on. `alive`: None where it cannot be known."""
    freed = ledger.recover(alive)
    unclear = [delivery for delivery, state in freed if state is State.AMBIGUOUS]
    rows = [row for row in map(ledger.delivery, unclear) if row is not None]
    return len(freed) - len(unclear), [DeliveryResult(row.id, row.address, State.AMBIGUOUS, UNCLEAR) for row in rows]
