"""Frozen letters -> claimed, armed, settled; each step names owner and attempt, so that nobody writes over another's work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, LargeBinary, RowMapping, Select, or_, select, true, type_coerce
from sqlalchemy.types import NullType

from distributor.ledger import clock, eligibility, mailbox_cleanup, transitions
from distributor.ledger.filters import of_senders, within
from distributor.ledger.message_verification import refuse_changed
from distributor.ledger.tables import delivery, event, handover, outbox, person
from distributor.ledger.transaction import Writing, words
from distributor.model.audit_log import stamp
from distributor.model.clocks import LONGEST_DELAY, bounded_lease
from distributor.model.delivery import EVERYBODY, Arm, Claim, Owner, Scope, Senders, Settle, Step
from distributor.model.outcomes import Parcel
from distributor.model.states import State, allowed


def _as_it_lies(column: Column[Any]) -> ColumnElement[Any]:
    """A column of bytes whatever is in it: somebody may have made a text of them."""
    return type_coerce(column, NullType()) if isinstance(column.type, LargeBinary) else column


_DUE = (
    select(
        delivery,
        outbox.c.sender,
        outbox.c.address,
        outbox.c.message_id.label("outbox_message_id"),
        _as_it_lies(outbox.c.message).label("message"),
        person.c.key.label("person_key"),
        person.c.address.label("person_address"),
        *(_as_it_lies(column).label(f"handover_{column.name}") for column in handover.columns),
    )
    .join(outbox, outbox.c.delivery == delivery.c.id)
    .join(person, person.c.id == delivery.c.person)
    .outerjoin(handover, handover.c.delivery == delivery.c.id)
    .order_by(delivery.c.id)
)
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
    since: int | None = None,
    senders: Senders = EVERYBODY,
) -> list[Claim]:
    """Claim letters that are due, oldest first. Raises Unusable where one is not as its events tell.

    What must not leave any more is withdrawn instead: a certificate that was revoked, has expired or is another person's too.
    """
    found = _good(book, limit, of_senders(within(_DUE, scope), senders), _put_off(book, early=early, since=since))
    if not found:
        return []
    transitions.enrol(book, who)
    until = stamp(book.moment + bounded_lease(lease))
    changes = [_claim(book, dict(row), who, until) for row in found]
    moved = transitions.move(book, changes)
    drafts = mailbox_cleanup.handles(book.connection, [row["id"] for row in found if row["attempt"]])
    return [Claim(new["id"], new["attempt"], new["deferrals"], _parcel(row, drafts)) for new, row in zip(moved, found, strict=True)]


def _put_off(book: Writing, *, early: bool, since: int | None) -> ColumnElement[bool]:
    """Which messages that were put off are wanted: those whose time has come, or `early` all that were so before event `since`."""
    if not early:
        return clock.due(book.now)
    if since is None:
        return true()
    again = select(event.c.seq).where(event.c.delivery == delivery.c.id, event.c.seq > since, event.c.event == State.DEFERRED.value)
    return or_(clock.due(book.now), ~again.exists())


def _good(book: Writing, limit: int, asked: Select[Any], put_off: ColumnElement[bool]) -> list[RowMapping]:
    """What is due, as its events tell, and may leave."""
    while True:
        found = [*_due(book, State.QUEUED, limit, asked), *_due(book, State.DEFERRED, limit, asked.where(put_off))]
        found = sorted(found, key=lambda row: str(row["id"]))[:limit]
        refuse_changed(book, found)
        good = eligibility.spare(book, found)
        if good or not found:
            found = [row for row in found if row["id"] in good]
            eligibility.refuse_early(book, found)
            return found
        if eligibility.holding_back(book):
            asked = asked.where(eligibility.valid(book.now))


def _due(book: Writing, state: State, limit: int, asked: Select[Any]) -> Sequence[RowMapping]:
    return book.connection.execute(asked.where(delivery.c.state == state.value).limit(limit)).mappings().all()


def _claim(book: Writing, row: transitions.Row, who: Owner, until: str) -> transitions.Change:
    attempt = row["attempt"] + 1
    evidence: dict[str, object] = {
        "attempt": attempt,
        "owner": who.id,
        "host": who.host,
        "pid": who.pid,
        "started": transitions.started(who),
    }
    if who.machine:
        evidence["machine"] = who.machine
    if clock.was_ahead(row["not_before"], book.now, LONGEST_DELAY):
        evidence["clock"] = f"it was put off until {row['not_before']} by a clock that was ahead"
    columns = {"attempt": attempt, "owner": who.id, "lease_until": until, "armed_at": None, "not_before": None}
    return transitions.Change(row, State.CLAIMED, columns, evidence)


def _parcel(row: RowMapping, drafts: Mapping[str, str]) -> Parcel:
    envelope = row["sender"], row["address"], row["message_id"], row["message"]
    return Parcel(row["id"], *envelope, row["attempt"] + 1, drafts.get(row["id"]))


def write(book: Writing, steps: Sequence[Step], who: Owner) -> list[bool]:
    """Apply the steps whose claim still holds."""
    rows = transitions.rows(book, [step.claim.id for step in steps])
    changes: list[transitions.Change] = []
    verdicts: list[bool] = []
    for step in steps:
        change = _step(book, rows.get(step.claim.id), step, who)
        verdicts.append(change is not None)
        if change is not None:
            changes.append(change)
            rows[step.claim.id] = {**change.row, **change.columns, "state": change.after.value}
    transitions.move(book, changes)
    return verdicts


def _step(book: Writing, row: transitions.Row | None, step: Step, who: Owner) -> transitions.Change | None:
    if row is None or row["owner"] != who.id or row["attempt"] != step.claim.attempt:
        return None
    match step:
        case Arm():
            return _arm(book, row, step)
        case Settle():
            return _settle(book, row, step)


def _arm(book: Writing, row: transitions.Row, step: Arm) -> transitions.Change | None:
    if row["state"] != State.CLAIMED or row["lease_until"] <= book.now:
        return None
    columns: dict[str, object] = {"lease_until": stamp(book.moment + bounded_lease(step.lease)), "armed_at": book.now}
    evidence: dict[str, object] = {"attempt": row["attempt"], "owner": row["owner"]}
    if step.handle is not None:
        columns["message_id"] = evidence["message_id"] = words(step.handle.message_id)
        evidence["handle"] = words(step.handle.id)
    return transitions.Change(row, State.TRANSMITTING, columns, evidence)


def _settle(book: Writing, row: transitions.Row, step: Settle) -> transitions.Change | None:
    before = State(row["state"])
    late = before is State.AMBIGUOUS and step.state is State.ACCEPTED  # a 250 that came after all, of the same attempt
    on_time = before in {State.CLAIMED, State.TRANSMITTING} and step.state in _ENDS and allowed(before, step.state)
    if not (late or on_time):
        return None
    said = words(step.said)
    wait = step.wait if step.state is State.DEFERRED else None
    until = None if wait is None else stamp(book.moment + min(wait, LONGEST_DELAY))
    columns = {**_left(row, step.state), "said": said, "not_before": until}
    evidence: dict[str, object] = {"attempt": row["attempt"], "owner": row["owner"]}
    if until is not None:
        evidence["not_before"] = until
    if late:
        evidence["late"] = True
    return transitions.Change(row, step.state, columns, evidence, {"said": said} if said else {})


def _left(row: transitions.Row, after: State) -> dict[str, object]:
    """What remains of the claim: all of it while ambiguous, since its owner may still bring the answer."""
    if after is State.AMBIGUOUS:
        return {"lease_until": None}
    return {**_FREE, "deferrals": row["deferrals"] + (after is State.DEFERRED)}


def release(book: Writing, claims: Sequence[Claim], who: Owner) -> None:
    """Give claims back that still hold."""
    rows = transitions.rows(book, [claim.id for claim in claims])
    changes: list[transitions.Change] = []
    for given in claims:
        row: dict[str, Any] | None = rows.get(given.id)
        if row and row["owner"] == who.id and row["attempt"] == given.attempt and row["state"] == State.CLAIMED:
            changes.append(transitions.Change(row, State.QUEUED, _FREE, {"attempt": given.attempt, "owner": who.id, "why": "given back"}))
    transitions.move(book, changes)
