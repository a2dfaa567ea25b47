"""Sealed passwords: shown once and with a witness, destroyed when their time is over."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, RowMapping, Select, delete, select, type_coerce
from sqlalchemy.types import NullType

from distributor.core.chain import stamp, unstamp
from distributor.core.deliveries import Envelope
from distributor.core.states import RECEIVED, PasswordState, State
from distributor.errors import Refused, Unusable
from distributor.ledger import book as door
from distributor.ledger.chain import Note, Writing, words
from distributor.ledger.frozen import refuse_changed_password
from distributor.ledger.tables import delivery, handover, outbox, person

LETTERS_KEPT = timedelta(days=30)  # how long a frozen letter stays after its acceptance
_SENT = [state.value for state in (*RECEIVED, State.BOUNCED)]
_RESEND = "`distributor resend` makes a new package with a new password"
_SEALED = type_coerce(handover.c.sealed, NullType()).label("sealed")  # as it lies there: somebody may have made a text of it
_HANDOVER = [_SEALED if column.name == "sealed" else column for column in handover.columns]
_ENVELOPES = (
    select(*_HANDOVER, delivery.c.certificate, delivery.c.generation, delivery.c.state.label("where"), person.c.address)
    .join(delivery, delivery.c.id == handover.c.delivery)
    .join(person, person.c.id == delivery.c.person)
)


def envelopes(connection: Connection, address: str) -> list[Envelope]:
    """Passwords of a person, newest first."""
    found = connection.execute(_ENVELOPES.where(person.c.key == address).order_by(delivery.c.id.desc())).mappings()
    return [_envelope(row) for row in found]


def _envelope(row: RowMapping) -> Envelope:
    until = None if row["expires_at"] is None else unstamp(row["expires_at"])
    return Envelope(
        row["delivery"], row["address"], row["certificate"], row["generation"], PasswordState(row["state"]), _bytes(row["sealed"]), until
    )


def _bytes(sealed: bytes | str | None) -> bytes | None:
    return sealed.encode() if isinstance(sealed, str) else sealed  # no vault opens what was a text


def hand_over(book: Writing, delivery_id: str, reason: str, channel: str) -> bytes:
    """Ready -> handed-over; the sealed bytes, which the ledger no longer has. Raises Unusable where somebody took them away."""
    row = book.connection.execute(_ENVELOPES.where(handover.c.delivery == delivery_id)).mappings().one_or_none()
    if row is None:
        raise Refused("it has no password", where=delivery_id, hint="`distributor status` shows which deliveries have one")
    _refuse_unless_ready(row, book.now)
    sealed = _bytes(row["sealed"])
    if sealed is None:
        raise Unusable("the ledger was changed from outside: the sealed password is gone", where=delivery_id, hint=_RESEND)
    refuse_changed_password(book, delivery_id)
    door.close_passwords(book, [delivery_id], PasswordState.HANDED_OVER)
    evidence = {"channel": channel, "certificate_sha256": row["certificate"], "generation": row["generation"]}
    book.append([Note(delivery_id, "revealed", None, None, evidence, {"address": row["address"], "reason": words(reason)})])
    return sealed


def _refuse_unless_ready(row: RowMapping, now: str) -> None:
    where = row["address"]
    match PasswordState(row["state"]):
        case PasswordState.HELD:
            raise Refused(
                f"the letter was not accepted yet (it is {row['where']}), so its password stays closed",
                where=where,
                hint="run `distributor send` first",
            )
        case PasswordState.HANDED_OVER:
            raise Refused(f"the password was handed over on {row['closed_at']} by {row['closed_by']}", where=where, hint=_RESEND)
        case PasswordState.DESTROYED:
            raise Refused(f"the password was destroyed on {row['closed_at']}", where=where, hint=_RESEND)
        case PasswordState.EXPIRED:
            raise Refused(f"the password expired on {row['expires_at']}", where=where, hint=_RESEND)
        case PasswordState.READY if row["expires_at"] is not None and row["expires_at"] <= now:
            raise Refused(f"the password expired on {row['expires_at']}", where=where, hint=_RESEND)
        case PasswordState.READY if row["where"] not in RECEIVED:
            raise Refused(f"the letter is {row['where']}, so its password stays closed", where=where, hint=_RESEND)
        case PasswordState.READY:
            return


def overdue(connection: Connection, now: str) -> bool:
    """Whether `expire` has anything to do; asked before the ledger is locked for writing."""
    old = stamp(unstamp(now) - LETTERS_KEPT)
    return connection.execute(_expired(now)).first() is not None or connection.execute(_old_letters(old).limit(1)).first() is not None


def expire(book: Writing) -> int:
    """Destroy passwords whose time is over, and letters that were accepted long ago; how many passwords."""
    ids = list(book.connection.execute(_expired(book.now)).scalars())
    for start in range(0, len(ids), door.CHUNK):
        part = ids[start : start + door.CHUNK]
        door.close_passwords(book, part, PasswordState.EXPIRED)
        book.append([Note(id_, "password-expired") for id_ in part])
    book.connection.execute(delete(outbox).where(outbox.c.delivery.in_(_old_letters(stamp(book.moment - LETTERS_KEPT)))))
    return len(ids)


def _expired(now: str) -> Select[str]:
    return select(handover.c.delivery).where(handover.c.state == PasswordState.READY.value, handover.c.expires_at <= now)


def _old_letters(before: str) -> Select[str]:
    return (
        select(outbox.c.delivery)
        .join(delivery, delivery.c.id == outbox.c.delivery)
        .where(delivery.c.state.in_(_SENT), delivery.c.updated_at <= before)
    )
