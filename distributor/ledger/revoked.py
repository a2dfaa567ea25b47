"""Certificates -> which of them are revoked, by what the events tell. The one place that knows; a released hold counts as good again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, select

from distributor.ledger import statements, transitions
from distributor.ledger.tables import IS_REVOCATION, delivery, event
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.certificates import REVOKED, is_hold
from distributor.model.states import State

_REVOCATION_EVENTS = (
    select(delivery.c.certificate, event.c.delivery, event.c.event, event.c.evidence, event.c.seq)
    .join(delivery, delivery.c.id == event.c.delivery)
    .where(IS_REVOCATION)
)  # in no order: for the order's sake SQLite would read every event
_CERTIFICATE, _DELIVERY, _SEQ = 0, 1, 4  # columns of it


@cache
def _of(size: int) -> Select[Any]:
    return _REVOCATION_EVENTS.where(statements.one_of(delivery.c.certificate, size))


def revoked(connection: Connection, certificates: Iterable[str]) -> dict[str, str]:
    """Those of the certificates (SHA-256) that are revoked, each with when and why."""
    return _standing(_events(connection, certificates), _CERTIFICATE)


def every(connection: Connection) -> dict[str, str]:
    """All that are revoked, for listings."""
    return _standing(statements.all_rows(connection, _REVOCATION_EVENTS, {}), _CERTIFICATE)


def recorded_revocations(connection: Connection, certificates: Iterable[str]) -> dict[str, str]:
    """The deliveries on which a revocation that still counts is recorded, each with its reason."""
    return _standing(_events(connection, certificates), _DELIVERY)


def _events(connection: Connection, certificates: Iterable[str]) -> list[Any]:
    wanted, found = sorted(set(certificates)), list[Any]()
    for start in range(0, len(wanted), transitions.CHUNK):
        size, values = statements.pad_to_bucket(wanted[start : start + transitions.CHUNK])
        found += statements.all_rows(connection, _of(size), values)
    return found


def _standing(events: Iterable[Any], of: int) -> dict[str, str]:
    """The last event of each counts."""
    last = {row[of]: row for row in sorted(events, key=itemgetter(_SEQ))}
    return {key: str(json.loads(evidence).get("said", "")) for key, (_, _, name, evidence, _) in last.items() if name == REVOKED}


def withdraw_revoked(tx: WriteTransaction, waiting: Sequence[Any]) -> frozenset[str]:
    """Withdraw those of these deliveries whose certificate is revoked, also if a sender returned them since; the ids of those that go on.

    `waiting`: mappings with `id` and `certificate`; none has a lease.
    """
    reasons = revoked(tx.connection, (row["certificate"] for row in waiting))
    if reasons:
        withdraw(tx, list(transitions.rows(tx, [row["id"] for row in waiting if row["certificate"] in reasons]).values()), reasons)
    return frozenset(row["id"] for row in waiting if row["certificate"] not in reasons)


def withdraw(tx: WriteTransaction, rows: Sequence[transitions.Row], reasons: Mapping[str, str]) -> None:
    """Take deliveries back that have not left. `reasons`: when and why, by certificate."""
    record_revocation(tx, rows, reasons)
    transitions.apply_transitions(tx, [_withdrawn(row, sanitize(reasons[row["certificate"]])) for row in rows])


def _withdrawn(row: transitions.Row, reason: str) -> transitions.Transition:
    columns = {"owner": None, "lease_until": None, "armed_at": None, "not_before": None, "said": reason}
    return transitions.Transition(row, State.WITHDRAWN, columns, {"certificate_sha256": row["certificate"]}, {"reason": reason})


def record_revocation(tx: WriteTransaction, rows: Sequence[transitions.Row], reasons: Mapping[str, str]) -> list[transitions.Row]:
    """Record it on deliveries that have no such event yet, or only one of a hold that has become final; returns those deliveries."""
    known = recorded_revocations(tx.connection, {row["certificate"] for row in rows})
    new = [row for row in rows if row["id"] not in known or (is_hold(known[row["id"]]) and not is_hold(reasons[row["certificate"]]))]
    tx.append([NewEvent(row["id"], REVOKED, None, None, evidence(row["certificate"], reasons[row["certificate"]])) for row in new])
    return new


def evidence(certificate: str, reason: str) -> dict[str, object]:
    """What an event about it holds."""
    return {"certificate_sha256": certificate, "said": sanitize(reason)}
