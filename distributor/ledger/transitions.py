"""State transitions of deliveries: each is checked, fenced and written together with its event. Nothing else changes a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import Select, and_, bindparam, delete, or_, select, update

from distributor.errors import InvalidInput, RequestDenied
from distributor.ledger import engine
from distributor.ledger.engine import ERASED
from distributor.ledger.tables import delivery, handover, outbox
from distributor.ledger.transaction import NewEvent, WriteTransaction
from distributor.model.audit_log import format_timestamp
from distributor.model.states import RECEIVED, PasswordState, State, allowed

Row = dict[str, Any]  # one delivery, by column
_CHANGING = (
    "state",
    "attempt",
    "deferrals",
    "owner",
    "lease_until",
    "armed_at",
    "not_before",
    "said",
    "message_id",
    "package_sha256",
    "profile",
)
_NAMES = [column.name for column in delivery.columns]
_UPDATE = (
    update(delivery)
    .where(delivery.c.id == bindparam("b_id"), delivery.c.state == bindparam("b_state"), delivery.c.attempt == bindparam("b_attempt"))
    .values({name: bindparam(name) for name in (*_CHANGING, "updated_at")})
)
_READY = (
    update(handover).where(handover.c.delivery == bindparam("b_id")).values(state=PasswordState.READY.value, expires_at=bindparam("until"))
)
_CLOSE = (
    update(handover)
    .where(
        handover.c.delivery.in_(bindparam("ids", expanding=True)),
        or_(
            handover.c.state.in_((PasswordState.HELD.value, PasswordState.READY.value)),
            and_(handover.c.state == PasswordState.EXPIRED.value, handover.c.sealed.is_not(None)),
        ),
    )
    .values(state=bindparam("closed"), sealed=None, closed_at=bindparam("now"), closed_by=bindparam("who"))
)
_EMPTY = delete(outbox).where(outbox.c.delivery.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Transition:
    """A delivery as it is, the state it enters, the columns that change with it, and what the event records."""

    row: Row
    after: State
    columns: Mapping[str, object] = field(default_factory=dict)
    evidence: Mapping[str, object] = field(default_factory=dict)
    personal: Mapping[str, object] = field(default_factory=dict)
    adopted: bool = False  # a step that only a restored ledger takes; `evidence` names the event


RELEASED: Mapping[str, object] = dict.fromkeys(("owner", "lease_until", "armed_at", "not_before"))  # of one that nobody holds


def withdrawal(row: Row, reason: str, evidence: Mapping[str, object], columns: Mapping[str, object] | None = None) -> Transition:
    """A delivery taken back; `reason` is fit for a line."""
    return Transition(row, State.WITHDRAWN, {**RELEASED, **(columns or {})}, evidence, {"reason": reason})


def rows(tx: WriteTransaction, ids: Sequence[str]) -> dict[str, Row]:
    """Deliveries by id."""
    return {row[0]: dict(zip(_NAMES, row, strict=True)) for row in engine.rows_of(tx.connection, _rows, ids)}


@cache
def _rows(size: int) -> Select[Any]:
    return select(delivery).where(engine.one_of(delivery.c.id, size))


@cache
def _held(size: int) -> Select[Any]:
    return select(handover.c.delivery, handover.c.lasts).where(
        engine.one_of(handover.c.delivery, size), handover.c.state == PasswordState.HELD.value
    )


def row(tx: WriteTransaction, delivery_id: str) -> Row:
    """One delivery; raises RequestDenied when there is none."""
    found = rows(tx, [delivery_id])
    if delivery_id not in found:
        raise RequestDenied("no such delivery", where=delivery_id, hint="run `distributor status` to list them")
    return found[delivery_id]


def apply_transitions(tx: WriteTransaction, changes: Sequence[Transition]) -> list[Row]:
    """Change states, one event each; the rows as they are now."""
    if not changes:
        return []
    moved = [_after(tx, change) for change in changes]
    updates = [
        {
            "b_id": c.row["id"],
            "b_state": c.row["state"],
            "b_attempt": c.row["attempt"],
            "updated_at": tx.now,
            **{n: new[n] for n in _CHANGING},
        }
        for c, new in zip(changes, moved, strict=True)
    ]
    if tx.many(_UPDATE, updates) != len(updates):
        raise InvalidInput(
            "a delivery was changed by another process at the same time", where=changes[0].row["id"], hint="run `distributor doctor`"
        )
    tx.append([NewEvent(c.row["id"], c.after.value, c.row["state"], c.after.value, c.evidence, c.personal) for c in changes])
    _move_passwords(tx, changes)
    return moved


def _after(tx: WriteTransaction, change: Transition) -> Row:
    before = State(change.row["state"])
    if not allowed(before, change.after, adopted=change.adopted):
        raise RequestDenied(
            f'a delivery that is "{before}" cannot become "{change.after}"',
            where=change.row["id"],
            hint="see `distributor history ADDRESS`",
        )
    return {**change.row, **change.columns, "state": change.after.value, "updated_at": tx.now}


def _move_passwords(tx: WriteTransaction, changes: Sequence[Transition]) -> None:
    received = [change.row["id"] for change in changes if change.after in RECEIVED]
    if received:
        held = engine.rows_of(tx.connection, _held, received)
        tx.many(_READY, [{"b_id": id_, "until": _until(tx, lasts)} for id_, lasts in held])
    withdrawn = [change.row["id"] for change in changes if change.after is State.WITHDRAWN]
    if withdrawn:
        close_passwords(tx, withdrawn, PasswordState.DESTROYED)
        tx.connection.execute(_EMPTY, {"ids": withdrawn})


def _until(tx: WriteTransaction, lasts: int | None) -> str | None:
    return None if lasts is None else format_timestamp(tx.moment + timedelta(seconds=lasts))


def close_passwords(tx: WriteTransaction, ids: Sequence[str], state: PasswordState) -> int:
    """Take the sealed bytes of held, ready and just expired passwords away; how many there were."""
    closed = tx.connection.execute(_CLOSE, {"ids": ids, "closed": state.value, "now": tx.now, "who": tx.by}).rowcount
    tx.connection.info[ERASED] = closed > 0 or tx.connection.info.get(ERASED, False)
    return closed
