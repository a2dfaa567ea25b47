"""Deliveries, with their passwords and messages, compared with their events: first as texts, which is quick, then field by field.

The events are proved on the way: each with its hash and the one before, and the states between which it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Select, bindparam, select

from distributor.ledger import engine, projection, usual_delivery
from distributor.ledger.engine import Database, snapshot
from distributor.ledger.projection import EVENT_COLUMNS
from distributor.ledger.queries import PAGE
from distributor.ledger.tables import certificate, delivery, event, handover, outbox, person, plan
from distributor.model.audit_log import MOST_FINDINGS, Link
from distributor.model.chain_proof import ChainProof

LAST = "\U0010ffff"  # sorts behind every identifier
DELIVERIES_PAGE = 100  # with their events and messages; more do not stay in the cache of a processor


def _joined(columns: Sequence[Any]) -> Select[Any]:
    return (
        select(*columns)
        .select_from(delivery)
        .join(plan, plan.c.id == delivery.c.plan, isouter=True)
        .join(person, person.c.id == delivery.c.person, isouter=True)
        .join(certificate, certificate.c.sha256 == delivery.c.certificate, isouter=True)
        .join(handover, handover.c.delivery == delivery.c.id, isouter=True)
        .join(outbox, outbox.c.delivery == delivery.c.id, isouter=True)
        .where(delivery.c.id > bindparam("last"), delivery.c.id <= bindparam("until"))
        .order_by(delivery.c.id)
        .limit(DELIVERIES_PAGE)
    )


_USUAL, _EXACT = _joined(usual_delivery.COLUMNS), _joined(projection.ROW_COLUMNS)
_before = event.alias("before_it")
_LINKED = select(*EVENT_COLUMNS, _before.c.hash, _before.c.at).select_from(event).outerjoin(_before, _before.c.seq == event.c.seq - 1)
_STEPS = _LINKED.where(event.c.delivery > bindparam("last"), event.c.delivery <= bindparam("until")).order_by(event.c.delivery, event.c.seq)
_OTHERS = _LINKED.where(event.c.delivery.is_(None), event.c.seq > bindparam("last")).order_by(event.c.seq).limit(PAGE)
_ID, _PERSON = 0, usual_delivery.UsualDelivery._fields.index("person")
_by_delivery, _LINK = itemgetter(Link._fields.index("delivery")), len(Link._fields)


@dataclass(slots=True)
class ComparedRows:
    """What comparing some deliveries found."""

    proof: ChainProof  # of their events
    findings: list[str] = field(default_factory=list)
    compared: int = 0
    people: set[str] = field(default_factory=set)  # whose rows were not proved to be what the events of their deliveries tell


def compare_rows(database: Database, after: str, until: str, doubtful: set[str], events: int) -> ComparedRows:
    """The deliveries between two ids, without the first; those in `doubtful` are not compared. Stops where there are too many findings.

    `events`: how many are to be proved; a delivery with one that does not hold is doubtful too. 0: none, since that is known.
    """
    found, last = ComparedRows(ChainProof(events)), after
    while last != until and len(found.findings) < MOST_FINDINGS:
        with snapshot(database) as connection:
            rows = engine.all_rows(connection, _USUAL, {"last": last, "until": until})
            end = rows[-1][_ID] if len(rows) == DELIVERIES_PAGE else until
            steps = engine.all_rows(connection, _STEPS, {"last": last, "until": end})
            usual = _proved(rows, steps, doubtful, found.proof)
            unusual = len(usual) < len(rows) or len(steps) != sum(usual.values())
            exact = engine.all_rows(connection, _EXACT, {"last": last, "until": end}) if unusual else ()
        found.compared += len(usual)
        found.people.update(row[_PERSON] for row in rows if row[_ID] not in usual)
        if unusual:
            left = {row[0]: dict(zip(projection.ROW_NAMES, row, strict=True)) for row in exact if row[0] not in usual}
            links = (Link._make(step[:_LINK]) for step in steps if _by_delivery(step) not in usual)
            found.findings += _differences(found, left, links, found.proof.doubtful | doubtful)
        last = end
    return found


def prove_others(database: Database, events: int) -> ChainProof:
    """The events that belong to no delivery."""
    proof = ChainProof(events)
    for page in engine.pages(database, _OTHERS, PAGE, {"last": 0}):
        if page:
            proof.add(page)
    return proof


def _proved(rows: Sequence[Sequence[Any]], steps: Sequence[Sequence[Any]], doubtful: set[str], proof: ChainProof) -> dict[str, int]:
    """The deliveries that are what their events tell, by the quick way, and how many events each has."""
    by_id = {row[_ID]: row for row in rows}
    found = {}
    for id_, theirs in groupby(steps, key=_by_delivery):
        events = list(theirs)
        trusted = proof.add(events) if proof.until else id_ not in doubtful
        if trusted and id_ in by_id and usual_delivery.is_as_told(by_id[id_], events):
            found[id_] = len(events)
    return found


def _differences(found: ComparedRows, rows: dict[str, dict[str, Any]], links: Iterator[Link], doubtful: set[str | None]) -> Iterator[str]:
    for id_, theirs in groupby(links, key=_by_delivery):
        row = rows.pop(id_, None)
        if row is None:
            yield f"delivery {id_}: has events but is missing"
        elif id_ not in doubtful:
            found.compared += 1
            yield from (f"delivery {id_}: {fault.words}" for fault in projection.differences(row, projection.project(theirs)))
    yield from (f"delivery {id_}: has no events" for id_ in rows)
