"""Events of messages -> copies and drafts that may be left in mailboxes; and the events that record their removal.

Only the events count: an attempt (`transmitting`) names the draft, the `queued` event the sender.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, literal, or_, select

from distributor.ledger import engine
from distributor.ledger.engine import Database
from distributor.ledger.queries import events_of_senders, senders_of
from distributor.ledger.tables import delivery, event, handover
from distributor.ledger.transaction import Clock, NewEvent, WriteTransaction
from distributor.model.attempts import DraftRef
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.delivery import SenderFilter
from distributor.model.mailbox_cleanup import CleanupEvent, CleanupItem
from distributor.model.states import PasswordState, State, Way

BY_MAIL = delivery.c.way == Way.MAIL.value
PAGE = engine.CHUNK  # deliveries
SETTLED = timedelta(hours=1)  # after which a draft of a replaced message that is unclear cannot be on its way any more
_COPY = frozenset({CleanupEvent.COPY_REMOVED, CleanupEvent.COPY_NOT_FOUND})
_DRAFT = frozenset({CleanupEvent.DRAFT_REMOVED, CleanupEvent.DRAFT_NOT_FOUND})
_LEFT = (State.ACCEPTED, State.DELIVERED, State.BOUNCED)  # a message in one of these was in its mailbox's Sent Items
_ATTEMPT = State.TRANSMITTING.value
_HAS_DRAFT = and_(event.c.event == _ATTEMPT, event.c.evidence.contains('"handle":', autoescape=True))

_AGAIN = and_(event.c.event == State.QUEUED.value, event.c.before == State.AMBIGUOUS.value)


def _has(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(event.c.seq).where(event.c.delivery == delivery.c.id, condition).exists()


def _marked(marks: frozenset[CleanupEvent]) -> ColumnElement[bool]:
    return _has(event.c.event.in_(sorted(mark.value for mark in marks)))


def _messages(wanted: ColumnElement[bool], marks: frozenset[CleanupEvent]) -> Select[Any]:
    asked = select(delivery.c.id, delivery.c.message_id, delivery.c.said).where(delivery.c.id > bindparam("last"), BY_MAIL)
    return asked.where(delivery.c.message_id.is_not(None), wanted, ~_marked(marks)).order_by(delivery.c.id).limit(PAGE)


COPIES = _messages(
    and_(
        delivery.c.state.in_([state.value for state in (*_LEFT, State.INSTALLED, State.WITHDRAWN)]),
        _has(event.c.after.in_([state.value for state in _LEFT])),
    ),
    _COPY,
)
_REPLACED = and_(
    delivery.c.state == State.AMBIGUOUS.value,
    delivery.c.updated_at < bindparam("before"),
    select(handover.c.delivery).where(handover.c.delivery == delivery.c.id, handover.c.state == PasswordState.DESTROYED.value).exists(),
)
_DRAFTS = _messages(and_(or_(delivery.c.state.in_([State.WITHDRAWN.value, State.REJECTED.value]), _REPLACED), _has(_HAS_DRAFT)), _DRAFT)


def copies(database: Database) -> list[CleanupItem]:
    """Sent messages whose copy is not known to be gone."""
    return list(_read(database, COPIES, {}))


def drafts(database: Database, clock: Clock) -> list[CleanupItem]:
    """Messages that will not be sent any more, with drafts that are not known to be gone."""
    return list(_read(database, _DRAFTS, {"before": format_timestamp(clock.now() - SETTLED)}))


def drafted(connection: Connection, sender: str) -> bool:
    """Whether a message of this sender was ever created as a draft."""
    asked = select(literal(1)).select_from(event).where(_HAS_DRAFT)
    return connection.execute(events_of_senders(asked, SenderFilter(only=sender)).limit(1)).first() is not None


def handles(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The draft that each message was last to be sent from; none once a person has decided that it was not sent."""
    asked = select(event.c.delivery, event.c.evidence).order_by(event.c.seq)
    found: dict[str, str] = {}
    for chunk in engine.chunks(ids):
        for id_, evidence in connection.execute(asked.where(event.c.delivery.in_(chunk), or_(_HAS_DRAFT, _AGAIN))):
            values = json.loads(evidence)
            if "handle" in values:
                found[id_] = values["handle"]
            elif values.get("kind") == "person":
                found.pop(id_, None)
    return found


def note(tx: WriteTransaction, deliveries: Sequence[str], mark: CleanupEvent) -> None:
    """Record once for each that it is gone, or no longer looked for."""
    alike = [one.value for one in (_COPY if mark in _COPY else _DRAFT)]
    known: set[str] = set()
    for chunk in engine.chunks(deliveries):
        asked = select(event.c.delivery).where(event.c.delivery.in_(chunk), event.c.event.in_(alike))
        known |= set(tx.connection.execute(asked).scalars())
    tx.append([NewEvent(id_, mark.value) for id_ in dict.fromkeys(deliveries) if id_ not in known])


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Attempts:
    """What the events of a message record."""

    times: list[str] = field(default_factory=list)
    handles: list[DraftRef] = field(default_factory=list)


def _read(database: Database, asked: Select[Any], values: dict[str, str]) -> Iterator[CleanupItem]:
    last = ""
    while True:
        with database.reading() as connection:
            page = connection.execute(asked, {**values, "last": last}).all()
            attempts = _attempts(connection, [row.id for row in page])
            senders = senders_of(connection, [row.id for row in page])
        yield from (_cleanup_item(row, attempts[row.id], senders.get(row.id)) for row in page if attempts[row.id].times)
        if len(page) < PAGE:
            return
        last = page[-1].id


def _attempts(connection: Connection, ids: Sequence[str]) -> dict[str, _Attempts]:
    found = {id_: _Attempts() for id_ in ids}
    asked = select(event.c.delivery, event.c.at, event.c.evidence).where(
        event.c.delivery.in_(ids), event.c.event == State.TRANSMITTING.value
    )
    for id_, at, recorded in connection.execute(asked.order_by(event.c.seq)):
        found[id_].times.append(at)
        evidence = json.loads(recorded)
        if "handle" in evidence:
            found[id_].handles.append(DraftRef(evidence["handle"], evidence.get("message_id", "")))
    return found


def _cleanup_item(row: Any, attempts: _Attempts, sender: str | None) -> CleanupItem:  # noqa: ANN401  a row of the database
    first, last = parse_timestamp(attempts.times[0]), parse_timestamp(attempts.times[-1])
    return CleanupItem(row.id, row.message_id, sender, row.said or "", first, last, tuple(dict.fromkeys(attempts.handles)))
