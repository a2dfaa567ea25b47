"""Everybody who ever claimed a message -> where their rows are not what the events of their claims tell.

A process that only packed has a row too, and no event: whoever lends nothing but loans is told by none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import select

from distributor.ledger import statements
from distributor.ledger.comparison import shown
from distributor.ledger.engine import Database
from distributor.ledger.snapshot import snapshot
from distributor.ledger.tables import owner
from distributor.model.audit_log import Link
from distributor.model.states import State

_NAMES = ("host", "pid", "started")
_OWNERS = select(owner.c.id, *(owner.c[name] for name in _NAMES))


class ClaimEvents:
    """What claims tell of their owners; a claim tells nothing that an older program did not write down."""

    def __init__(self) -> None:
        self._told: dict[str, dict[str, object]] = {}

    def step(self, link: Link) -> None:
        """Hear one event."""
        if link.event == State.CLAIMED:
            try:
                evidence = json.loads(link.evidence)
            except (ValueError, RecursionError):  # the chain's own check has found it
                return
            if isinstance(evidence, dict) and isinstance(evidence.get("owner"), str):
                told = self._told.setdefault(evidence["owner"], {})
                for name in _NAMES:
                    if name in evidence:
                        told.setdefault(name, evidence[name])

    def faults(self, database: Database) -> Iterator[str]:
        """One line for each thing that is not as it was when they claimed."""
        with snapshot(database) as connection:
            rows = {id_: dict(zip(_NAMES, row, strict=True)) for id_, *row in statements.all_rows(connection, _OWNERS, {})}
        for id_, told in self._told.items():
            row = rows.get(id_)
            if row is None:
                yield f"owner {id_}: has claims but is gone"
                continue
            for name, wanted in told.items():
                if row[name] != wanted:
                    yield f"owner {id_}: {name} is {shown(row[name])}, but its claims say {shown(wanted)}"
