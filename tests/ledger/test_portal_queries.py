"""What the portal asks is found by an index, and says what the deliveries say."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from typing import cast

import pytest

from distributor.ledger.repository import SqlLedger
from distributor.model.requests import DayCount, RequestLimits
from distributor.model.states import RequestState, State
from tests.ledger.world import World


def test_outcomes_are_counted_by_day(world: World) -> None:
    world.accepted("anna")
    world.accepted("bert")
    world.clock.forward(days=1)
    id_ = world.accepted("cleo")
    world.ledger.confirm(id_, {})
    assert world.ledger.timeline(datetime(2026, 1, 1, tzinfo=UTC)) == [
        DayCount(date(2026, 11, 24), State.ACCEPTED, 2),
        DayCount(date(2026, 11, 25), State.ACCEPTED, 1),
        DayCount(date(2026, 11, 25), State.INSTALLED, 1),
    ]
    assert len(world.ledger.timeline(datetime(2026, 11, 25, 23, tzinfo=UTC))) == 2


def test_people_are_found_by_the_beginning_of_address_or_name_whatever_its_case(world: World) -> None:
    world.plan("anna", "bert", "annika")
    world.sql("UPDATE person SET name = 'Ölander, Bert' WHERE key = 'bert@example.org'")
    world.spoiled = True
    anna, annika = ("anna@example.org", "anna Example"), ("annika@example.org", "annika Example")
    bert = "bert@example.org", "Ölander, Bert"
    assert world.ledger.search("ANN", 9) == [anna, annika]
    assert world.ledger.search("ANNA EX", 9) == [anna]
    assert world.ledger.search("öla", 9) == [bert]
    assert world.ledger.search("", 2) == [anna, annika]
    assert world.ledger.search("example", 9) == []
    assert world.ledger.search("%", 9) == []


def test_the_newest_deliveries_come_first_and_go_on_below_one(world: World) -> None:
    sent = world.accepted("anna")
    one, two, three = (found.id for found in world.plan("bert", "cleo", "dora"))
    assert [found.id for found in world.ledger.newest([State.PLANNED], 2)] == [three, two]
    assert [found.id for found in world.ledger.newest([State.PLANNED, State.ACCEPTED], 9, before=two)] == [one, sent]
    assert world.ledger.newest([State.BOUNCED], 9) == []


@contextmanager
def plans(world: World) -> Iterator[list[str]]:
    """How SQLite runs each query that is made meanwhile."""
    database = cast("SqlLedger", world.ledger)._database  # noqa: SLF001  only there the statements can be seen
    made: list[str] = []
    found: list[str] = []
    with database.reading() as connection:
        driver = cast("sqlite3.Connection", connection.connection.driver_connection)  # its one connection, which all queries use
    driver.set_trace_callback(made.append)
    try:
        yield found
    finally:
        driver.set_trace_callback(None)
    with closing(sqlite3.connect(database.where)) as reader:
        for statement in made:
            if statement.startswith("SELECT"):
                found.extend(str(row[3]) for row in reader.execute(f"EXPLAIN QUERY PLAN {statement}"))


QUERIES: list[tuple[Callable[[World], object], str]] = [
    (lambda world: world.ledger.timeline(datetime(2026, 1, 1, tzinfo=UTC)), "event_of_outcome"),
    (lambda world: world.ledger.search("ann", 9), "person_by_name"),
    (lambda world: world.ledger.newest([State.ACCEPTED], 9), "delivery_by_state"),
    (lambda world: world.ledger.requests({RequestState.OPEN}), "request_by_state"),
    (lambda world: world.ledger.requests(address="anna@example.org"), "request_by_delivery"),
    (lambda world: world.ledger.unplanned(), "request_by_state"),
    (lambda world: world.ledger.ask(world.plan("zoe")[0].id, "lost", limits=RequestLimits()), "request_by_delivery"),
]


@pytest.mark.parametrize(("query", "index"), QUERIES, ids=["timeline", "search", "newest", "open", "of a person", "unplanned", "ask"])
def test_a_query_of_the_portal_reads_no_whole_table(file_world: World, query: Callable[[World], object], index: str) -> None:
    file_world.accepted("anna")
    with plans(file_world) as found:
        query(file_world)
    assert any(index in line for line in found), found
    scans = [line for line in found if line.startswith("SCAN") and "INDEX" not in line]
    assert scans == [], found
