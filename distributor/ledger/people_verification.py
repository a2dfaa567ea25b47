"""People, and where their certificates are public, compared with the events of their deliveries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Select, or_, select

from distributor.ledger import engine, person_projection
from distributor.ledger.engine import Database, snapshot
from distributor.ledger.person_projection import PERSON_CHANGED
from distributor.ledger.projection import EVENT_COLUMNS
from distributor.ledger.tables import delivery, event, person, publication
from distributor.model.audit_log import ERASED, Link

_PUBLISHED, _UNPUBLISHED = "published", "unpublished"
_TELLING = ("planned", PERSON_CHANGED, ERASED, _PUBLISHED, _UNPUBLISHED)
_KEYS = select(person.c.id, person.c.key)
_ALONE = select(person.c.id).where(~select(delivery.c.id).where(delivery.c.person == person.c.id).exists())
_WITH_PUBLICATION = select(publication.c.person).distinct()


@cache
def _people(size: int) -> Select[Any]:
    return select(person).where(engine.one_of(person.c.id, size)).order_by(person.c.id)


@cache
def _events(size: int) -> Select[Any]:
    asked = select(delivery.c.person, *EVENT_COLUMNS).join(event, event.c.delivery == delivery.c.id)
    asked = asked.where(engine.one_of(delivery.c.person, size), or_(*(event.c.event == name for name in _TELLING)))
    return asked.order_by(delivery.c.person, event.c.seq)


@cache
def _public(size: int) -> Select[Any]:
    columns = (publication.c[name] for name in ("person", "certificate", "place", "at"))
    return select(*columns).where(engine.one_of(publication.c.person, size)).order_by(publication.c.person)


def verify_people(database: Database, doubtful: set[str], unproved: set[str]) -> Iterator[str]:
    """Where a person or publication differs from the events; not with a delivery in `doubtful`, whose events do not verify.

    `unproved`: the people with a delivery, but for those whose rows were proved with it.
    """
    with snapshot(database) as connection:
        others = {row[0] for asked in (_ALONE, _WITH_PUBLICATION) for row in engine.all_rows(connection, asked, {})}
    for part in engine.chunks(sorted(unproved | others)):
        with snapshot(database) as connection:
            rows = [dict(zip(person.c.keys(), row, strict=True)) for row in engine.rows_of(connection, _people, part)]
            events = _by_person(engine.rows_of(connection, _events, part))
            public = _by_person(engine.rows_of(connection, _public, part))
        for row in rows:
            links = [Link(*columns) for columns in events.get(row["id"], ())]
            if not links and not _was_parted(database, row):
                yield f"person {row['id']}: has no delivery and no event"
            if not any(link.delivery in doubtful for link in links):
                yield from (f"person {row['id']}: {fault.words}" for fault in person_projection.person_faults(row, links))
                yield from _publication_faults(links, public.get(row["id"], ()))


def _by_person(rows: Sequence[Any]) -> dict[str, list[Any]]:
    return {who: [row[1:] for row in theirs] for who, theirs in groupby(rows, key=itemgetter(0))}


def _was_parted(database: Database, row: Mapping[str, Any]) -> bool:
    """Whether a migration gave all their deliveries to another person, whom the address's key had joined with them (see `s0004_key`)."""
    with snapshot(database) as connection:
        others = engine.all_rows(connection, _KEYS, {})
    alike = row["key"].casefold()
    return any(key.casefold() == alike and id_ == _parted_id(row["id"], key) for id_, key in others)


def _parted_id(who: str, key: str) -> str:
    return f"p-{sha256(f'{who} {key}'.encode()).hexdigest()[:26].upper()}"


def _publication_faults(links: Sequence[Link], public: Sequence[Any]) -> Iterator[str]:
    wanted: dict[tuple[str, str], str] = {}
    for link in links:
        if link.event in {_PUBLISHED, _UNPUBLISHED}:
            evidence = json.loads(link.evidence)
            where = evidence.get("certificate_sha256", ""), evidence.get("place", "")
            if link.event == _PUBLISHED:
                wanted[where] = link.at
            else:
                wanted.pop(where, None)
    found = {(sha, place): at for sha, place, at in public}
    for sha, place in sorted(found.keys() | wanted.keys()):
        at, since = found.get((sha, place)), wanted.get((sha, place))
        if at != since:
            yield f'publication of {sha} at "{place[:80]}": {_since(at)}, but the audit log says {_since(since)}'


def _since(at: str | None) -> str:
    return "none" if at is None else f'since "{at}"'
