"""Further columns of rosters that are kept beside people, since letters name them; those that no letter names any more go."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from sqlalchemy import Connection, bindparam, select, update

from distributor.core.chain import canonical
from distributor.ledger.chain import Writing
from distributor.ledger.database import ERASED
from distributor.ledger.tables import person

_KEPT = select(person.c.id, person.c.columns).where(person.c.columns != "")
_CHANGE = update(person).where(person.c.id == bindparam("b_id")).values(columns=bindparam("b_columns"))


def superfluous(connection: Connection, used: Callable[[], Collection[str]]) -> list[dict[str, str]]:
    """The people who have others than those in use, with what is left. `used` is asked only where anybody has any."""
    changes = []
    names: Collection[str] | None = None
    for id_, columns in connection.execute(_KEPT):
        names = used() if names is None else names
        there = json.loads(columns)
        kept = {name: value for name, value in there.items() if name in names}
        if len(kept) != len(there):
            changes.append({"b_id": id_, "b_columns": canonical(kept) if kept else ""})
    return changes


def forget(book: Writing, changes: list[dict[str, str]]) -> None:
    """Keep only what is left."""
    book.many(_CHANGE, changes)
    book.connection.info[ERASED] = True
