"""What events record of people: written when somebody is planned or a later roster changes them, and compared with their rows.

Where a certificate is public follows from the events of all deliveries of a person together, so that is compared here too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import bindparam, or_, select

from distributor.ledger import engine
from distributor.ledger.engine import Database, snapshot
from distributor.ledger.projection import Difference, address_key, fingerprint, shown
from distributor.ledger.tables import delivery, event, person, publication
from distributor.model.audit_log import Link

FIELDS = ("address", "name", "language", "phone", "manager", "alternate_email", "columns")
CHANGED = "person-changed"  # a later roster says something else of them
PUBLISHED, UNPUBLISHED = "published", "unpublished"
PEOPLE_PAGE = 500  # people
LONGEST_RECORDED = 200  # characters recorded of a value; of a longer one, and of a roster's further columns, the SHA-256 is recorded
LAST = "\U0010ffff"  # sorts behind every identifier
_PEOPLE = select(person).where(person.c.id > bindparam("last")).order_by(person.c.id).limit(PEOPLE_PAGE)
_EVENTS = (
    select(delivery.c.person, *(event.c[name] for name in Link._fields))
    .join(event, event.c.delivery == delivery.c.id)
    .where(delivery.c.person > bindparam("last"), delivery.c.person <= bindparam("until"))
    .where(or_(*(event.c.event == name for name in ("planned", CHANGED, PUBLISHED, UNPUBLISHED))))
    .order_by(delivery.c.person, event.c.seq)
)
_KEYS = select(person.c.id, person.c.key)
_PUBLIC = (
    select(publication.c.person, publication.c.certificate, publication.c.place, publication.c.at)
    .where(publication.c.person > bindparam("last"), publication.c.person <= bindparam("until"))
    .order_by(publication.c.person)
)
Row = Mapping[str, Any]


def personal_evidence(row: Row) -> dict[str, str]:
    """What an event records of a person, under its commitment: what is there, by column."""
    return {name: _brief(name, row[name]) for name in FIELDS if row[name]}


def _brief(name: str, value: str) -> str:
    return f"sha256:{fingerprint(value)}" if name == "columns" or len(value) > LONGEST_RECORDED else value


def verify_people(database: Database, doubtful: set[str]) -> Iterator[str]:
    """Every person and publication that differs from the events; none with a delivery in `doubtful`, whose events do not verify."""
    last = ""
    while True:
        with snapshot(database) as connection:
            rows = [dict(zip(person.c.keys(), row, strict=True)) for row in engine.all_rows(connection, _PEOPLE, {"last": last})]
            until = rows[-1]["id"] if len(rows) == PEOPLE_PAGE else LAST
            page = {"last": last, "until": until}
            events = _by_person(engine.all_rows(connection, _EVENTS, page))
            public = _by_person(engine.all_rows(connection, _PUBLIC, page))
        for row in rows:
            links = [Link(*columns) for columns in events.get(row["id"], ())]
            if not links and not _was_parted(database, row):
                yield f"person {row['id']}: no delivery is for them, and no event tells of them"
            if not any(link.delivery in doubtful for link in links):
                yield from (f"person {row['id']}: {fault.words}" for fault in person_faults(row, links))
                yield from _publication_faults(links, public.get(row["id"], ()))
        if until == LAST:
            return
        last = until


def _was_parted(database: Database, row: Row) -> bool:
    """Whether a migration gave all their deliveries to another person, whom the address's key had joined with them (see `s0004_key`)."""
    with snapshot(database) as connection:
        others = engine.all_rows(connection, _KEYS, {})
    alike = row["key"].casefold()
    return any(key.casefold() == alike and id_ == merged_finding(row["id"], key) for id_, key in others)


def merged_finding(who: str, key: str) -> str:
    """The identifier of the person with this key whom a migration parted from `who`."""
    return f"p-{sha256(f'{who} {key}'.encode()).hexdigest()[:26].upper()}"


def _by_person(rows: Sequence[Any]) -> dict[str, list[Any]]:
    return {who: [row[1:] for row in theirs] for who, theirs in groupby(rows, key=itemgetter(0))}


def person_faults(row: Row, links: Sequence[Link]) -> Iterator[Difference]:
    """Where a person is not what the last of these events tells."""
    wanted = _last_recorded(row, links)
    if wanted is None:
        return
    found = personal_evidence(row)
    for name in FIELDS:
        if found.get(name, "") != wanted.get(name, ""):
            yield Difference(f"person's {name}", f"{name} is {_shown(found, name)}, but its events say {_shown(wanted, name)}")


def _last_recorded(row: Row, links: Sequence[Link]) -> Mapping[str, str] | None:
    """What the last event says that tells all of a person; None where no event does, or its personal fields were erased."""
    last: Mapping[str, str] | None = None
    for link in links:
        if link.event not in {"planned", CHANGED}:
            continue
        what = json.loads(link.personal).get("person") if link.personal else None
        if not isinstance(what, dict):
            last = None
        elif address_key(what.get("address", "")) == row["key"]:  # else the delivery was given to somebody else, which is found there
            last = what
    return last


def _shown(values: Mapping[str, str], name: str) -> str:
    return shown(values.get(name) or None)


def _publication_faults(links: Sequence[Link], public: Sequence[Any]) -> Iterator[str]:
    wanted: dict[tuple[str, str], str] = {}
    for link in links:
        if link.event in {PUBLISHED, UNPUBLISHED}:
            evidence = json.loads(link.evidence)
            where = evidence.get("certificate_sha256", ""), evidence.get("place", "")
            if link.event == PUBLISHED:
                wanted[where] = link.at
            else:
                wanted.pop(where, None)
    found = {(certificate, place): at for certificate, place, at in public}
    for certificate, place in sorted(found.keys() | wanted.keys()):
        at, since = found.get((certificate, place)), wanted.get((certificate, place))
        if at != since:
            yield f'publication of {certificate} at "{place[:80]}": {_since(at)}, but its events say {_since(since)}'


def _since(at: str | None) -> str:
    return "there is none" if at is None else f'since "{at}"'
