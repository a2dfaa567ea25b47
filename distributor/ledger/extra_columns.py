"""Further columns of rosters that are kept beside people, since messages name them; those that no message names any more go."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping

from sqlalchemy import Connection, select

from distributor.ledger import planning
from distributor.ledger.engine import ERASED
from distributor.ledger.tables import person
from distributor.ledger.transaction import WriteTransaction
from distributor.model.audit_log import canonical

_KEPT = select(person).where(person.c.columns != "")
Change = tuple[Mapping[str, str], Mapping[str, str]]  # a person's row as it is, and as it is to be


def unused_columns(connection: Connection, used: Callable[[], Collection[str]]) -> list[Change]:
    """The people who have others than those in use. `used` is asked only where anybody has any."""
    changes: list[Change] = []
    names: Collection[str] | None = None
    for row in connection.execute(_KEPT).mappings():
        names = used() if names is None else names
        there = json.loads(row["columns"])
        kept = {name: value for name, value in there.items() if name in names}
        if len(kept) != len(there):
            changes.append((dict(row), {**row, "columns": canonical(kept) if kept else ""}))
    return changes


def erase_columns(tx: WriteTransaction, changes: list[Change]) -> None:
    """Keep only what is left."""
    planning.change_people(tx, changes)
    tx.connection.info[ERASED] = True
