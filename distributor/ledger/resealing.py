"""Sealed passwords, read and replaced for `vault rotate`; each new sealing is an event, whose bytes `audit verify` expects from then on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select, update

from distributor.ledger import engine
from distributor.ledger.engine import ERASED, Database
from distributor.ledger.leases import holder_from_row
from distributor.ledger.message_verification import password_differences
from distributor.ledger.projection import RESEALED, fingerprint
from distributor.ledger.queries import PAGE
from distributor.ledger.tables import event, handover, owner
from distributor.ledger.transaction import NewEvent, WriteTransaction
from distributor.model.delivery import LeaseHolder
from distributor.model.resealing import ResealedPassword, ResealResult, StoredPassword
from distributor.model.states import PasswordState

_LAST = (
    select(event.c.evidence)
    .where(event.c.delivery == handover.c.delivery, event.c.event == RESEALED)
    .order_by(event.c.seq.desc())
    .limit(1)
    .scalar_subquery()
)
_STORED = (
    select(handover.c.delivery, handover.c.state, handover.c.sealed, _LAST)
    .where(handover.c.sealed.is_not(None), handover.c.delivery > bindparam("last"))
    .order_by(handover.c.delivery)
    .limit(PAGE)
)
_REPLACE = update(handover).where(handover.c.delivery == bindparam("b_id")).values(sealed=bindparam("b_sealed"))
_OWNERS = select(owner.c.id, owner.c.host, owner.c.pid, owner.c.started)


def stored(database: Database) -> Iterator[StoredPassword]:
    """Every password whose sealed bytes are there, by delivery; a page in a transaction."""
    for delivery, state, sealed, evidence in engine.paged(database, _STORED, PAGE, {"last": ""}):
        found = sealed.encode() if isinstance(sealed, str) else sealed  # no vault opens what was a text
        yield StoredPassword(delivery, PasswordState(state), found, _recipients(evidence, found))


def _recipients(evidence: str | None, sealed: bytes) -> tuple[str, ...] | None:
    """The public keys in the last event `resealed`, if these are its bytes."""
    try:
        told = json.loads(evidence) if evidence else {}
        known = told.get("sealed_sha256") == fingerprint(sealed)
        return tuple(told["recipients"]) if known else None
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):  # somebody edited the event; the chain's own check finds it
        return None


def reseal(tx: WriteTransaction, passwords: Sequence[ResealedPassword], recipients: Sequence[str]) -> list[ResealResult]:
    """Replace sealed bytes; those that are not what the events tell stay, since a new event would make them right."""
    ids = [password.delivery for password in passwords]
    there = dict(engine.rows_of(tx.connection, _sealed, ids))
    changed = password_differences(tx, ids)
    results = [_verdict(password, there.get(password.delivery), changed) for password in passwords]
    good = [password for password, result in zip(passwords, results, strict=True) if result is ResealResult.RESEALED]
    if good:
        tx.many(_REPLACE, [{"b_id": password.delivery, "b_sealed": password.sealed} for password in good])
        to = {"recipients": list(recipients)}
        tx.append([NewEvent(one.delivery, RESEALED, evidence={**to, "sealed_sha256": fingerprint(one.sealed)}) for one in good])
        tx.connection.info[ERASED] = True
    return results


def _verdict(password: ResealedPassword, there: object, changed: dict[str, str]) -> ResealResult:
    if there is None:
        return ResealResult.GONE
    if password.delivery in changed:
        return ResealResult.CHANGED
    return ResealResult.RESEALED if there == password.before else ResealResult.GONE


@cache
def _sealed(size: int) -> Select[Any]:
    return select(handover.c.delivery, handover.c.sealed).where(engine.one_of(handover.c.delivery, size))


def senders(connection: Connection) -> list[LeaseHolder]:
    """Every process that ever packed or sent."""
    return [holder_from_row(*row) for row in connection.execute(_OWNERS)]
