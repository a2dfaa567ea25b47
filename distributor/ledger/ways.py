"""People who are served by mail, by Intune, or by both; and the old certificates whose keys were delivered to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from sqlalchemy import Connection, Select, case, func, select, text

from distributor.ledger import engine
from distributor.ledger.tables import delivery, one_of, person
from distributor.model.audit_log import parse_timestamp
from distributor.model.delivery import ServedBy
from distributor.model.revocation import IN_USE
from distributor.model.states import State, Way


@cache
def _others(way: Way, size: int) -> Select[Any]:
    asked = select(person.c.key, func.min(delivery.c.way), func.max(delivery.c.updated_at)).join(delivery, delivery.c.person == person.c.id)
    in_use = text(one_of("delivery.state", sorted(IN_USE)))
    by_this = func.sum(case((delivery.c.way == way.value, 1), else_=0))
    return asked.where(engine.one_of(person.c.key, size), in_use).group_by(person.c.key).having(by_this == 0)


def served_otherwise(connection: Connection, people: Sequence[str], way: Way) -> dict[str, ServedBy]:
    """Those of the people (Address.key) who have, or are to get, certificates only by another way than this one."""
    rows = engine.rows_of(connection, partial(_others, way), people)
    return {key: ServedBy(Way(other), parse_timestamp(at)) for key, other, at in rows}


@cache
def _old(size: int) -> Select[Any]:
    asked = select(person.c.key, delivery.c.certificate).distinct().join(delivery, delivery.c.person == person.c.id)
    return asked.where(engine.one_of(person.c.key, size), delivery.c.series != "", delivery.c.state != State.WITHDRAWN.value)


def old_certificates(connection: Connection, people: Sequence[str]) -> dict[str, frozenset[str]]:
    """By Address.key, the SHA-256 of the old certificates that these people have, or are to get."""
    found: dict[str, set[str]] = {}
    for key, sha256 in engine.rows_of(connection, _old, people):
        found.setdefault(key, set()).add(sha256)
    return {key: frozenset(theirs) for key, theirs in found.items()}
