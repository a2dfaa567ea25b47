"""Processes that claimed messages -> where their rows differ from the events of their claims.

A process that only packed has a row too, but no event names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import select

from distributor.ledger import statements
from distributor.ledger.comparison import shown
from distributor.ledger.engine import Database, snapshot
from distributor.ledger.tables import owner
from distributor.model.audit_log import Link
from distributor.model.states import State

_NAMES = ("host", "pid", "started")
_OWNERS = select(owner.c.id, *(owner.c[name] for name in _NAMES))


class ClaimEvents:
    """What the events of claims record of their owners; older programs recorded less."""

    def __init__(self) -> None:
        self._recorded: dict[str, dict[str, object]] = {}

    def step(self, link: Link) -> None:
        """Read one event."""
        if link.event == State.CLAIMED:
            try:
                evidence = json.loads(link.evidence)
            except (ValueError, RecursionError):  # the chain's own check has found it
                return
            if isinstance(evidence, dict) and isinstance(evidence.get("owner"), str):
                recorded = self._recorded.setdefault(evidence["owner"], {})
                for name in _NAMES:
                    if name in evidence:
                        recorded.setdefault(name, evidence[name])

    def faults(self, database: Database) -> Iterator[str]:
        """One line for each column that differs from what the claims recorded."""
        with snapshot(database) as connection:
            rows = {id_: dict(zip(_NAMES, row, strict=True)) for id_, *row in statements.all_rows(connection, _OWNERS, {})}
        for id_, recorded in self._recorded.items():
            row = rows.get(id_)
            if row is None:
                yield f"owner {id_}: has claims but is gone"
                continue
            for name, wanted in recorded.items():
                if row[name] != wanted:
                    yield f"owner {id_}: {name} is {shown(row[name])}, but its claims say {shown(wanted)}"
