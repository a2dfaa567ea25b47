"""Frozen letters -> claimed, armed, settled; each step names owner and attempt, so that nobody writes over another's work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, or_, select, type_coerce
from sqlalchemy.types import NullType

from distributor.core.chain import stamp
from distributor.core.deliveries import EVERYBODY, Arm, Claim, Owner, Scope, Senders, Settle, Step
from distributor.core.outcomes import Parcel
from distributor.core.states import State, allowed
from distributor.ledger import book as door
from distributor.ledger import leaving, revoked
from distributor.ledger.chain import Writing, words
from distributor.ledger.frozen import refuse_changed
from distributor.ledger.scope import of_senders, within
from distributor.ledger.tables import delivery, outbox, person

_DUE = (
    select(
        delivery,
        outbox.c.sender,
        outbox.c.address,
        outbox.c.message_id.label("outbox_message_id"),
        type_coerce(outbox.c.message, NullType()).label("message"),  # as it lies there: somebody may have made a text of it
        person.c.key.label("person_key"),
        person.c.address.label("person_address"),
    )
    .join(outbox, outbox.c.delivery == delivery.c.id)
    .join(person, person.c.id == delivery.c.person)
    .order_by(delivery.c.id)
)
LAST = "9999-12-31T23:59:59.999999Z"
_FREE: dict[str, object] = {"owner": None, "lease_until": None, "armed_at": None}
_ENDS = frozenset({State.ACCEPTED, State.DEFERRED, State.REJECTED, State.AMBIGUOUS, State.QUEUED})


def claim(  # noqa: PLR0913  the port's own arguments
    book: Writing,
    who: Owner,
    limit: int,
    lease: timedelta,
    scope: Scope,
    *,
    early: bool,
    since: datetime | None = None,
    senders: Senders = EVERYBODY,
) -> list[Claim]:
    """Claim letters that are due, oldest first. Raises Unusable where one is not as its events tell.

    One of a revoked certificate is withdrawn instead.
    """
    put_off_before = (stamp(since) if since else LAST) if early else ""
    found = _good(book, limit, of_senders(within(_DUE, scope), senders), put_off_before)
    if not found:
        return []
    door.enrol(book, who)
    until = stamp(book.moment + lease)
    changes = [_claim(dict(row), who, until) for row in found]
    moved = door.move(book, changes)
    drafts = leaving.handles(book.connection, [row["id"] for row in found if row["attempt"]])
    return [Claim(new["id"], new["attempt"], new["deferrals"], _parcel(row, drafts)) for new, row in zip(moved, found, strict=True)]


def _good(book: Writing, limit: int, asked: Select[Any], put_off_before: str) -> list[RowMapping]:
    """What is due, as its events tell, and not of a revoked certificate."""
    while True:
        found = [*_due(book, State.QUEUED, limit, asked, LAST), *_due(book, State.DEFERRED, limit, asked, put_off_before)]
        found = sorted(found, key=lambda row: str(row["id"]))[:limit]
        refuse_changed(book, found)
        good = revoked.spare(book, found)
        if good or not found:
            return [row for row in found if row["id"] in good]


def _due(book: Writing, state: State, limit: int, asked: Select[Any], put_off_before: str) -> Sequence[RowMapping]:
    asked = asked.where(delivery.c.state == state.value)
    if put_off_before != LAST:
        due = or_(delivery.c.not_before.is_(None), delivery.c.not_before <= book.now)
        asked = asked.where(or_(due, delivery.c.updated_at < put_off_before))
    return book.connection.execute(asked.limit(limit)).mappings().all()


def _claim(row: door.Row, who: Owner, until: str) -> door.Change:
    attempt = row["attempt"] + 1
    evidence: dict[str, object] = {"attempt": attempt, "owner": who.id, "host": who.host, "pid": who.pid}
    if who.machine:
        evidence["machine"] = who.machine
    columns = {"attempt": attempt, "owner": who.id, "lease_until": until, "armed_at": None, "not_before": None}
    return door.Change(row, State.CLAIMED, columns, evidence)


def _parcel(row: RowMapping, drafts: Mapping[str, str]) -> Parcel:
    envelope = row["sender"], row["address"], row["message_id"], row["message"]
    return Parcel(row["id"], *envelope, row["attempt"] + 1, drafts.get(row["id"]))


def write(book: Writing, steps: Sequence[Step], who: Owner) -> list[bool]:
    """Apply the steps whose claim still holds."""
    rows = door.rows(book, [step.claim.id for step in steps])
    changes: list[door.Change] = []
    verdicts: list[bool] = []
    for step in steps:
        change = _step(book, rows.get(step.claim.id), step, who)
        verdicts.append(change is not None)
        if change is not None:
            changes.append(change)
            rows[step.claim.id] = {**change.row, **change.columns, "state": change.after.value}
    door.move(book, changes)
    return verdicts


def _step(book: Writing, row: door.Row | None, step: Step, who: Owner) -> door.Change | None:
    if row is None or row["owner"] != who.id or row["attempt"] != step.claim.attempt:
        return None
    match step:
        case Arm():
            return _arm(book, row, step)
        case Settle():
            return _settle(row, step)


def _arm(book: Writing, row: door.Row, step: Arm) -> door.Change | None:
    if row["state"] != State.CLAIMED or row["lease_until"] <= book.now:
        return None
    columns: dict[str, object] = {"lease_until": stamp(book.moment + step.lease), "armed_at": book.now}
    evidence: dict[str, object] = {"attempt": row["attempt"], "owner": row["owner"]}
    if step.handle is not None:
        columns["message_id"] = evidence["message_id"] = words(step.handle.message_id)
        evidence["handle"] = words(step.handle.id)
    return door.Change(row, State.TRANSMITTING, columns, evidence)


def _settle(row: door.Row, step: Settle) -> door.Change | None:
    before = State(row["state"])
    late = before is State.AMBIGUOUS and step.state is State.ACCEPTED  # a 250 that came after all, of the same attempt
    on_time = before in {State.CLAIMED, State.TRANSMITTING} and step.state in _ENDS and allowed(before, step.state)
    if not (late or on_time):
        return None
    said = words(step.said)
    until = None if step.not_before is None else stamp(step.not_before)
    columns = {**_left(row, step.state), "said": said, "not_before": until if step.state is State.DEFERRED else None}
    evidence: dict[str, object] = {"attempt": row["attempt"], "owner": row["owner"]}
    if columns["not_before"]:
        evidence["not_before"] = until
    if late:
        evidence["late"] = True
    return door.Change(row, step.state, columns, evidence, {"said": said} if said else {})


def _left(row: door.Row, after: State) -> dict[str, object]:
    """What remains of the claim: all of it while ambiguous, since its owner may still bring the answer."""
    if after is State.AMBIGUOUS:
        return {"lease_until": None}
    return {**_FREE, "deferrals": row["deferrals"] + (after is State.DEFERRED)}


def release(book: Writing, claims: Sequence[Claim], who: Owner) -> None:
    """Give claims back that still hold."""
    rows = door.rows(book, [claim.id for claim in claims])
    changes: list[door.Change] = []
    for given in claims:
        row: dict[str, Any] | None = rows.get(given.id)
        if row and row["owner"] == who.id and row["attempt"] == given.attempt and row["state"] == State.CLAIMED:
            changes.append(door.Change(row, State.QUEUED, _FREE, {"attempt": given.attempt, "owner": who.id, "why": "given back"}))
    door.move(book, changes)
