"""What the portal asks besides requests: outcomes by day, people by address or name, the newest deliveries in some states."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, literal_column, select

from distributor.errors import RequestDenied
from distributor.ledger import engine, transitions
from distributor.ledger.queries import DELIVERIES, to_delivery
from distributor.ledger.resolution import PERSONAL
from distributor.ledger.tables import DAY, IS_OUTCOME, delivery, event, person
from distributor.ledger.transaction import WriteTransaction, sanitize
from distributor.model.delivery import Delivery
from distributor.model.people import key_of
from distributor.model.requests import DayCount
from distributor.model.states import State

LAST = "\U0010ffff"  # sorts behind every text that begins the same
_day: ColumnElement[str] = literal_column(str(DAY))


def timeline(connection: Connection, since: str) -> list[DayCount]:
    """How many deliveries entered an outcome on each day from that of `since`, in the order of days."""
    asked = select(_day, event.c.event, func.count()).where(IS_OUTCOME, _day >= since[:10]).group_by(_day, event.c.event)
    found = sorted((day, name, number) for day, name, number in connection.execute(asked))
    return [DayCount(date.fromisoformat(day), State(name), number) for day, name, number in found]


def _beginning(column: ColumnElement[str]) -> Select[Any]:
    """People by the beginning of a text, in the order of addresses."""
    between = column >= bindparam("lowest"), column < bindparam("highest")
    return select(person.c.key, person.c.address, person.c.name).where(*between).order_by(person.c.key).limit(bindparam("limit"))


_BY_ADDRESS, _BY_NAME = _beginning(person.c.key), _beginning(func.lower(person.c.name))


def search(connection: Connection, text: str, limit: int) -> list[tuple[str, str]]:
    """Addresses and names of people whose address or name begins with a text, in the order of addresses."""
    found: dict[str, tuple[str, str]] = {}
    for asked in (_BY_ADDRESS, _BY_NAME) if text else (_BY_ADDRESS,):
        for beginning in _spellings(text):
            lowest = key_of(beginning)
            rows = engine.all_rows(connection, asked, {"lowest": lowest, "highest": lowest + LAST, "limit": limit})
            found |= {key: (address, name) for key, address, name in rows}
    return [found[key] for key in sorted(found)[:limit]]


def _spellings(text: str) -> Iterable[str]:
    """A text as names write it; databases lower only A to Z."""
    return {text} if text.isascii() else {text, text.lower(), text.title()}


_OLDER = DELIVERIES.where(delivery.c.state == bindparam("state"), delivery.c.id < bindparam("before"))
_NEWEST = _OLDER.order_by(delivery.c.id.desc()).limit(bindparam("limit"))


def newest(connection: Connection, states: Collection[State], limit: int, before: str | None) -> list[Delivery]:
    """Deliveries in these states, newest first. Each state is asked by itself, so that the index gives the order."""
    rows: list[Any] = []
    for state in states:
        rows += engine.all_rows(connection, _NEWEST, {"state": state.value, "before": before or LAST, "limit": limit})
    return [to_delivery(row) for row in sorted(rows, key=itemgetter(0), reverse=True)[:limit]]


def confirm(tx: WriteTransaction, delivery_id: str, evidence: Mapping[str, object]) -> None:
    """Accepted or delivered -> installed, by the person's word. Raises RequestDenied in any other state."""
    row = transitions.row(tx, delivery_id)
    clean = {key: sanitize(value) if isinstance(value, str) else value for key, value in evidence.items()}
    public = {"attempt": row["attempt"], **{key: value for key, value in clean.items() if key not in PERSONAL}}
    personal = {key: value for key, value in clean.items() if key in PERSONAL}
    columns = {"said": personal["said"]} if "said" in personal else {}
    if State(row["state"]) not in {State.ACCEPTED, State.DELIVERED}:
        raise RequestDenied(f"the delivery is {row['state']}, so it cannot be confirmed", where=delivery_id)
    transitions.apply_transitions(tx, [transitions.Transition(row, State.INSTALLED, columns, public, personal)])
