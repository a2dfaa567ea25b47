"""Sealed passwords: shown once and with a witness, expired when their time is over, and destroyed some days after that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import Connection, RowMapping, Select, bindparam, delete, select, type_coerce, update
from sqlalchemy.types import NullType

from distributor.errors import InvalidInput, RequestDenied
from distributor.ledger import engine, transitions
from distributor.ledger.message_verification import refuse_changed_passwords
from distributor.ledger.tables import delivery, handover, outbox, person
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.delivery import SealedPassword
from distributor.model.states import RECEIVED, PasswordState, State

MESSAGES_KEPT = timedelta(days=30)  # how long a frozen message stays after its acceptance
SEALED_KEPT = timedelta(days=7)  # how long the sealed bytes of a password stay after it was found expired, in case the clock was wrong
_SENT = [state.value for state in (*RECEIVED, State.BOUNCED)]
_RESEND = "run `distributor resend` for a new package and password"
_SEALED = type_coerce(handover.c.sealed, NullType()).label("sealed")  # as it lies there: somebody may have made a text of it
_HANDOVER = [_SEALED if column.name == "sealed" else column for column in handover.columns]
_ENVELOPES = (
    select(*_HANDOVER, delivery.c.certificate, delivery.c.generation, delivery.c.state.label("where"), person.c.address)
    .join(delivery, delivery.c.id == handover.c.delivery)
    .join(person, person.c.id == delivery.c.person)
)
_END = (
    update(handover)
    .where(handover.c.delivery.in_(bindparam("ids", expanding=True)))
    .values(state=PasswordState.EXPIRED.value, closed_at=bindparam("now"), closed_by=bindparam("who"))
)
_READY_AGAIN = (
    update(handover)
    .where(handover.c.delivery.in_(bindparam("ids", expanding=True)))
    .values(state=PasswordState.READY.value, closed_at=None, closed_by=None)
)
_OPEN = frozenset({PasswordState.HELD, PasswordState.READY})


def envelopes(connection: Connection, address: str) -> list[SealedPassword]:
    """Passwords of a person, newest first."""
    asked = _ENVELOPES.where(person.c.key == address).order_by(delivery.c.generation.desc(), delivery.c.id.desc())
    return [_envelope(row) for row in connection.execute(asked).mappings()]


def _envelope(row: RowMapping) -> SealedPassword:
    until = None if row["expires_at"] is None else parse_timestamp(row["expires_at"])
    state = PasswordState(row["state"])
    sealed = _bytes(row["sealed"]) if state in _OPEN else None  # what expired is kept in case the clock was wrong, not to be opened
    return SealedPassword(row["delivery"], row["address"], row["certificate"], row["generation"], state, sealed, until)


def _bytes(sealed: bytes | str | None) -> bytes | None:
    return sealed.encode() if isinstance(sealed, str) else sealed  # no vault opens what was a text


def hand_over(tx: WriteTransaction, delivery_id: str, reason: str, channel: str) -> bytes:
    """Ready -> handed-over; the sealed bytes, which the ledger no longer has. Raises InvalidInput where somebody took them away."""
    return hand_over_all(tx, [delivery_id], reason, channel, {})[delivery_id]


def hand_over_all(
    tx: WriteTransaction, ids: Sequence[str], reason: str, channel: str, evidence: Mapping[str, object], **personal: object
) -> dict[str, bytes]:
    """Hand several passwords over, or none; the sealed bytes by delivery. `evidence` and `personal` are recorded with each."""
    asked = (tx.connection.execute(_ENVELOPES.where(handover.c.delivery.in_(part))).mappings() for part in engine.chunks(ids))
    rows = {row["delivery"]: row for part in asked for row in part}
    sealed: dict[str, bytes] = {}
    for id_ in ids:
        if id_ not in rows:
            hint = "run `distributor status` to see which deliveries have a password"
            raise RequestDenied("the delivery has no password", where=id_, hint=hint)
        _refuse_unless_ready(rows[id_], tx.now)
        found = _bytes(rows[id_]["sealed"])
        if found is None:
            raise InvalidInput("the ledger was modified outside distributor: the sealed password is missing", where=id_, hint=_RESEND)
        sealed[id_] = found
    refuse_changed_passwords(tx, ids)
    for part in engine.chunks(ids):
        transitions.close_passwords(tx, part, PasswordState.HANDED_OVER)
    told = {"reason": sanitize(reason), **personal}
    tx.append([_revealed(rows[id_], {"channel": channel, **evidence}, told) for id_ in ids])
    return sealed


def _revealed(row: RowMapping, evidence: Mapping[str, object], personal: Mapping[str, object]) -> NewEvent:
    about = {"certificate_sha256": row["certificate"], "generation": row["generation"]}
    return NewEvent(row["delivery"], "revealed", None, None, {**evidence, **about}, {"address": row["address"], **personal})


def _refuse_unless_ready(row: RowMapping, now: str) -> None:
    where = row["address"]
    match PasswordState(row["state"]):
        case PasswordState.HELD:
            raise RequestDenied(
                f"the password is not available until the message is accepted (it is {row['where']})",
                where=where,
                hint="run `distributor send` first",
            )
        case PasswordState.HANDED_OVER:
            raise RequestDenied(f"the password was handed over on {row['closed_at']} by {row['closed_by']}", where=where, hint=_RESEND)
        case PasswordState.DESTROYED if row["expires_at"] is not None and row["expires_at"] <= row["closed_at"]:
            raise RequestDenied(f"the password expired on {row['expires_at']} and was destroyed", where=where, hint=_RESEND)
        case PasswordState.DESTROYED:
            raise RequestDenied(f"the password was destroyed on {row['closed_at']}", where=where, hint=_RESEND)
        case PasswordState.EXPIRED:
            raise RequestDenied(f"the password expired on {row['expires_at']}", where=where, hint=_RESEND)
        case PasswordState.READY if row["expires_at"] is not None and row["expires_at"] <= now:
            raise RequestDenied(f"the password expired on {row['expires_at']}", where=where, hint=_RESEND)
        case PasswordState.READY if row["where"] not in RECEIVED:
            raise RequestDenied(f"the message is {row['where']}, so its password is not available", where=where, hint=_RESEND)
        case PasswordState.READY:
            return


def overdue(connection: Connection, now: str) -> bool:
    """Whether `expire` has anything to do; asked before the ledger is locked for writing."""
    asked = (_over(now), _not_over(now), _to_destroy(now), _old_messages(now))
    return any(connection.execute(each.limit(1)).first() is not None for each in asked)


def expire(tx: WriteTransaction) -> int:
    """End passwords whose time is over; how many.

    Their sealed bytes stay for some days: if a clock was ahead, the password is ready again once it is not. What ended long enough ago
    is destroyed, and so are messages that were accepted long ago, but only when time has really passed.
    """
    over = _in_parts(tx, _over(tx.now))
    kept = format_timestamp(tx.moment + SEALED_KEPT)
    for part in over:
        tx.connection.execute(_END, {"ids": part, "now": tx.now, "who": tx.by})
        tx.append([NewEvent(id_, "password-expired", evidence={"sealed_until": kept}) for id_ in part])
    for part in _in_parts(tx, _not_over(tx.now)):
        tx.connection.execute(_READY_AGAIN, {"ids": part})
        tx.append([NewEvent(id_, "password-ready", evidence={"why": "it expired while a clock was ahead"}) for id_ in part])
    _destroy(tx)
    return sum(map(len, over))


def _destroy(tx: WriteTransaction) -> None:
    passwords = _in_parts(tx, _to_destroy(tx.now))
    messages = tx.connection.execute(_old_messages(tx.now).limit(1)).first()
    if not (passwords or messages) or not tx.time_has_passed():
        return
    for part in passwords:
        transitions.close_passwords(tx, part, PasswordState.DESTROYED)
        tx.append([NewEvent(id_, "password-destroyed", evidence={"why": "it expired"}) for id_ in part])
    tx.connection.execute(delete(outbox).where(outbox.c.delivery.in_(_old_messages(tx.now))))


def _in_parts(tx: WriteTransaction, asked: Select[str]) -> list[Sequence[str]]:
    ids = list(tx.connection.execute(asked.order_by(handover.c.delivery)).scalars())
    return list(engine.chunks(ids))


def _over(now: str) -> Select[str]:
    return select(handover.c.delivery).where(handover.c.state == PasswordState.READY.value, handover.c.expires_at <= now)


_EXPIRED = select(handover.c.delivery).where(handover.c.state == PasswordState.EXPIRED.value, handover.c.sealed.is_not(None))


def _not_over(now: str) -> Select[str]:
    return _EXPIRED.where(handover.c.expires_at > now)


def _to_destroy(now: str) -> Select[str]:
    return _EXPIRED.where(handover.c.expires_at <= now, handover.c.closed_at <= format_timestamp(parse_timestamp(now) - SEALED_KEPT))


def _old_messages(now: str) -> Select[str]:
    return (
        select(outbox.c.delivery)
        .join(delivery, delivery.c.id == outbox.c.delivery)
        .where(delivery.c.state.in_(_SENT), delivery.c.updated_at <= format_timestamp(parse_timestamp(now) - MESSAGES_KEPT))
    )
