"""Deliveries about to leave -> those whose certificate may: what was revoked, has expired or is another person's too is withdrawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, select

from distributor.errors import Unusable
from distributor.ledger import certificate_owners, revoked, statements, transitions
from distributor.ledger.tables import certificate, delivery, person
from distributor.ledger.transaction import Writing, words
from distributor.model.revoking import HELD_BACK, Struck
from distributor.model.states import State


class _About(NamedTuple):
    """A delivery with what decides."""

    id: str
    person: str  # Address.key
    address: str
    certificate: str
    key: str | None
    not_before: str
    not_after: str


@cache
def _about(room: int) -> Select[Any]:
    return (
        select(
            delivery.c.id,
            person.c.key,
            person.c.address,
            *(certificate.c[n] for n in ("sha256", "key_sha256", "not_before", "not_after")),
        )
        .join(person, person.c.id == delivery.c.person)
        .join(certificate, certificate.c.sha256 == delivery.c.certificate)
        .where(statements.one_of(delivery.c.id, room))
    )


def spare(book: Writing, waiting: Sequence[Any]) -> frozenset[str]:
    """Withdraw those of these deliveries that must not leave any more; the ids of those that go on.

    `waiting`: mappings with `id`, `certificate` and, but for planned ones, `state`; nobody holds them. What was withdrawn is told in
    `book.taken_back`; so is what is held back as it was, since its certificate has expired only by a clock that jumped.
    """
    if not waiting:
        return frozenset()
    facts = _facts(book, [row["id"] for row in waiting])
    said = revoked.revoked(book.connection, (row["certificate"] for row in waiting))
    good = revoked.spare(book, waiting) if said else frozenset(row["id"] for row in waiting)
    gone = {one.id: said[one.certificate] for one in facts if one.id not in good}
    reasons = _reasons(book, [one for one in facts if one.id in good])
    held = {one.id for one in facts if one.id in reasons and _expired(one, book)}
    if held and book.time_has_passed():
        held = set()
    left = [id_ for id_ in reasons if id_ not in held]
    transitions.move(book, [_withdrawn(row, reasons[row["id"]]) for row in transitions.rows(book, left).values()])
    gone |= reasons
    states = {row["id"]: State(row.get("state", State.PLANNED)) for row in waiting}
    for one in (one for one in facts if one.id in gone):
        before = states[one.id]
        after, why = State.WITHDRAWN, gone[one.id]
        if one.id in held:
            after, why = before, f"{HELD_BACK}{why}, by a clock that jumped"
        book.taken_back.append(Struck(one.id, one.address, before, after, words(why)))
    return good - reasons.keys()


def holding_back(book: Writing) -> bool:
    """Whether this transaction found a delivery that is held back."""
    return any(struck.after is not State.WITHDRAWN for struck in book.taken_back)


def valid(now: str) -> ColumnElement[bool]:
    """Deliveries whose certificate has not expired."""
    return delivery.c.certificate.in_(select(certificate.c.sha256).where(certificate.c.not_after > now).correlate(None))


def _facts(book: Writing, ids: Sequence[str]) -> list[_About]:
    found: list[_About] = []
    for start in range(0, len(ids), transitions.CHUNK):
        room, values = statements.listed(ids[start : start + transitions.CHUNK])
        found += [_About(*row) for row in book.all(_about(room), values)]
    return found


def _reasons(book: Writing, facts: Sequence[_About]) -> dict[str, str]:
    over = {one.id: expiry(one.not_after) for one in facts if _expired(one, book)}
    rest = {one.id: (one.person, one.certificate, one.key) for one in facts if one.id not in over}
    return over | certificate_owners.others(book, rest)


def _expired(one: _About, book: Writing) -> bool:
    return one.not_after <= book.now


def expiry(not_after: str) -> str:
    """The words for a certificate that expired; `not_after` is a stamp."""
    return f"the certificate expired on {not_after[:10]}"


def _withdrawn(row: transitions.Row, said: str) -> transitions.Change:
    columns = {"owner": None, "lease_until": None, "armed_at": None, "not_before": None}
    return transitions.Change(row, State.WITHDRAWN, columns, {"certificate_sha256": row["certificate"]}, {"reason": words(said)})


def refuse_early(book: Writing, waiting: Sequence[Any]) -> None:
    """Raise Unusable where a certificate is not valid yet: it was when its delivery was planned, so a clock is wrong."""
    for one in _facts(book, [row["id"] for row in waiting]):
        if one.not_before > book.now:
            raise Unusable(
                f"the certificate is valid from {one.not_before[:19]}Z on, and it is {book.now[:19]}Z by this machine's clock",
                where=one.id,
                hint=f"correct the clock, or take the letter back: distributor withdraw {one.id} --reason TEXT",
            )
