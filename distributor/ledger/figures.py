"""Counts for metrics: one query for each kind."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from distributor.errors import InvalidInput
from distributor.ledger import attention, checkpoints, queries
from distributor.ledger.tables import delivery, handover
from distributor.model.audit_log import parse_timestamp
from distributor.model.delivery import DeliveryFilter
from distributor.model.metrics import EXPIRY_DAYS, LedgerFigures
from distributor.model.states import PasswordState, State, Way

_DELIVERIES = select(delivery.c.state, delivery.c.way, func.count()).group_by(delivery.c.state, delivery.c.way)
_WAITING = (State.PLANNED, State.QUEUED, State.DEFERRED, State.CLAIMED, State.TRANSMITTING, State.AMBIGUOUS)
_OLDEST = (
    select(delivery.c.state, func.min(delivery.c.updated_at))
    .where(delivery.c.state.in_([state.value for state in _WAITING]))
    .group_by(delivery.c.state)
)
_PASSWORDS = select(handover.c.state, func.count()).group_by(handover.c.state)


def collect(connection: Connection, now: str) -> LedgerFigures:
    """All counts of one moment."""
    events, last = queries.end(connection)
    try:
        checkpoint = checkpoints.last(connection)
    except InvalidInput:  # verification says what is wrong with it
        checkpoint = None
    return LedgerFigures(
        parse_timestamp(now),
        {(State(state), Way(way)): number for state, way, number in connection.execute(_DELIVERIES)},
        {State(state): parse_timestamp(at) for state, at in connection.execute(_OLDEST)},
        {PasswordState(state): number for state, number in connection.execute(_PASSWORDS)},
        {days: attention.expiring(connection, now, days) for days in EXPIRY_DAYS},
        attention.find(connection, DeliveryFilter(), now),
        events,
        parse_timestamp(last) if last else None,
        None if checkpoint is None else (checkpoint.size, checkpoint.at),
    )
