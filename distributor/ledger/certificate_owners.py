"""A certificate, and the key that it is about, are one person's -> who else has a delivery of them.

Whoever has the key of another person's certificate reads that person's mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, select

from distributor.errors import Refused
from distributor.ledger import statements, transitions
from distributor.ledger.tables import certificate, delivery, event, person
from distributor.ledger.transaction import Writing
from distributor.model.audit_log import unstamp
from distributor.model.delivery import Draft, Taken
from distributor.model.states import REMAINING, State
from distributor.pki.spki import sha256_of


class Holding(NamedTuple):
    """A delivery, its person, and what it holds."""

    id: str
    state: str
    since: str
    person: str  # Address.key
    address: str
    name: str
    certificate: str
    key: str | None

    @property
    def waits(self) -> bool:
        """Whether nothing of it has left yet."""
        return self.state in REMAINING


_HOLDINGS = (
    select(
        *(delivery.c[n] for n in ("id", "state", "updated_at")),
        *(person.c[n] for n in ("key", "address", "name")),
        *(certificate.c[n] for n in ("sha256", "key_sha256")),
    )
    .join(person, person.c.id == delivery.c.person)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
)


@cache
def _of_certificates(room: int) -> Select[Any]:
    return _HOLDINGS.where(statements.one_of(delivery.c.certificate, room))


@cache
def _of_keys(room: int) -> Select[Any]:
    return _HOLDINGS.where(statements.one_of(certificate.c.key_sha256, room))


@cache
def _unclear(room: int) -> Select[Any]:
    was: ColumnElement[bool] = event.c.after == State.AMBIGUOUS.value
    return select(event.c.delivery).where(statements.one_of(event.c.delivery, room), was)


class Holders:
    """Every delivery of some certificates and keys that counts: one that was withdrawn does not, unless its letter may have left before."""

    def __init__(self, book: Writing, wanted: Mapping[str, str | None]) -> None:
        """`wanted`: the SHA-256 of certificates, each with that of its key."""
        rows = [*_rows(book, _of_certificates, wanted), *_rows(book, _of_keys, filter(None, wanted.values()))]
        found = {row[0]: Holding(*row) for row in rows}
        back = [one.id for one in found.values() if one.state == State.WITHDRAWN]
        left = {row[0] for row in _rows(book, _unclear, back)}
        self._found: dict[str, list[Holding]] = {}
        for one in sorted(found.values()):
            if one.state != State.WITHDRAWN or one.id in left:
                self.add(one)

    def add(self, one: Holding) -> None:
        """One more delivery."""
        for name in {one.certificate, one.key or one.certificate}:
            self._found.setdefault(name, []).append(one)

    def of(self, sha256: str, key: str | None) -> list[Holding]:
        """The deliveries of a certificate, then those of others with its key."""
        return [*self._found.get(sha256, ()), *(self._found.get(key, ()) if key else ())]


def _rows(book: Writing, asked: Any, names: Iterable[str]) -> list[Any]:  # noqa: ANN401  a query that is made for a number of names
    wanted, found = sorted(set(names)), list[Any]()
    for start in range(0, len(wanted), transitions.CHUNK):
        room, values = statements.listed(wanted[start : start + transitions.CHUNK])
        found += book.all(asked(room), values)
    return found


def taken(book: Writing, drafts: Sequence[Draft]) -> list[Taken | None]:
    """For each draft, the delivery of another person that stands against it. Of drafts against each other, the first is good."""
    keys = {draft.facts.sha256: sha256_of(draft.leaf) for draft in drafts}
    holders = Holders(book, keys)
    verdicts: list[Taken | None] = []
    for draft in drafts:
        sha256, who = draft.facts.sha256, draft.person.address
        all_ = holders.of(sha256, keys[sha256])
        known = any(one.person == who.key and one.certificate == sha256 for one in all_)
        other = None if known else next((one for one in all_ if one.person != who.key), None)
        verdicts.append(None if other is None else _taken(draft, other))
        if other is None:
            new = Holding("", State.PLANNED, book.now, who.key, str(who), draft.person.name, sha256, keys[sha256])
            holders.add(new)
    return verdicts


def _taken(draft: Draft, other: Holding) -> Taken:
    same = other.certificate == draft.facts.sha256
    return Taken(draft, other.id, other.address, other.name, State(other.state), unstamp(other.since), same_certificate=same)


def refuse(book: Writing, who: str, sha256: str) -> None:
    """Raise Refused where a certificate, or its key, is another person's too. `who`: an Address.key."""
    key = book.connection.execute(select(certificate.c.key_sha256).where(certificate.c.sha256 == sha256)).scalar_one_or_none()
    for other in Holders(book, {sha256: key}).of(sha256, key):
        if other.person != who:
            what = "this certificate" if other.certificate == sha256 else "the key of this certificate"
            hint = "have a certificate with a new key issued; whoever has this one reads the mail of both"
            raise Refused(f'{what} is also {other.state} for "{other.address}" ({other.id})', where=who, hint=hint)


def others(book: Writing, waiting: Mapping[str, tuple[str, str, str | None]]) -> dict[str, str]:
    """Why deliveries must not leave: the certificate or key is that of another person who was planned before, or may have it already.

    `waiting`: person's key, certificate and key by the delivery's id.
    """
    holders = Holders(book, {sha256: key for _, sha256, key in waiting.values()})
    found = {}
    for id_, (who, sha256, key) in waiting.items():
        for other in holders.of(sha256, key):
            if other.person != who and (other.id < id_ or not other.waits):
                what = "the certificate" if other.certificate == sha256 else "the key of the certificate"
                found[id_] = f"{what} is {other.state} for {other.address} too"
                break
    return found
