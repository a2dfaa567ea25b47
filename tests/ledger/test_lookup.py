"""Deliveries are found by what a person types: an address, or the beginning of an id, a SHA-256 or a serial number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import create_engine, event

from distributor.errors import Error, RequestDenied, UsageError
from distributor.ledger.lookup import find
from distributor.ledger.sqlite import sqlite3
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.states import State
from distributor.workflows import lookup
from tests.ledger.world import World, draft


@pytest.fixture
def people(world: World) -> dict[str, Delivery]:
    """Anna, Bert and Carl with serial numbers 4f2a90c1d7, 4f2b11 and 9."""
    serials = {"anna": "4f2a90c1d7", "bert": "4f2b11", "carl": "9"}
    drafts = [replace(draft(name), facts=replace(draft(name).facts, serial=serial)) for name, serial in serials.items()]
    found = world.ledger.plan("plan-1", drafts)
    return {name: delivery for name, delivery in zip(serials, found, strict=True) if isinstance(delivery, Delivery)}


@pytest.mark.parametrize(
    "typed",
    ["anna@example.org", "ANNA@Example.ORG ", "4f2a90c1", "4F:2A:90:C1", "0x4f2a90", "004f2a90c1d7", "4f 2a 90", "id", "SHA", "sha:"],
)
def test_a_person_is_found_however_the_name_was_read_out(world: World, people: dict[str, Delivery], typed: str) -> None:
    anna = people["anna"]
    sha = anna.certificate_sha256
    spelled = {"id": anna.id.lower(), "SHA": sha[:12].upper(), "sha:": ":".join(sha[i : i + 2] for i in range(0, 64, 2))}
    assert [anna.id] == [delivery.id for delivery in lookup.find(world.ledger, spelled.get(typed, typed))]


def test_a_whole_serial_number_is_not_ambiguous_though_a_hash_begins_so(world: World, people: dict[str, Delivery]) -> None:
    world.ledger.plan("plan-1", [replace(draft("dora"), facts=replace(draft("dora").facts, serial="91"))])
    assert [people["carl"].id] == [delivery.id for delivery in lookup.find(world.ledger, "9")]


def test_a_beginning_is_sought_by_indexes_and_not_row_by_row(file_world: World) -> None:
    asked: list[tuple[str, object]] = []
    engine = create_engine(file_world.url, module=sqlite3)
    event.listen(engine, "before_cursor_execute", lambda _connection, _cursor, statement, values, *_: asked.append((statement, values)))
    with engine.connect() as connection:
        assert find(connection, None, "4f2a") == []
        ((statement, values),) = asked
        steps = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values))  # type: ignore[arg-type]  # as they came
    engine.dispose()
    assert "certificate_by_serial (serial>? AND serial<?)" in steps
    assert "SCAN certificate" not in steps


def refused(world: World, typed: str, certificate: str | None = None) -> Error:
    with pytest.raises((RequestDenied, UsageError)) as caught:
        lookup.find(world.ledger, typed, certificate)
    assert caught.value.hint
    return caught.value


def test_an_ambiguous_serial_number_lists_whose_it_may_be(world: World, people: dict[str, Delivery]) -> None:
    hint = refused(world, "4f2").hint or ""
    assert people
    assert "4f2a90c1 (anna@example.org, valid until " in hint
    assert "4f2b11 (bert@example.org, valid until " in hint


def test_an_ambiguous_id_lists_the_deliveries(world: World, people: dict[str, Delivery]) -> None:
    hint = refused(world, people["anna"].id[:9]).hint or ""
    assert f"{people['anna'].id} (anna@example.org)" in hint


def test_a_blank_before_an_ambiguous_id_makes_it_no_certificate(world: World, people: dict[str, Delivery]) -> None:
    assert refused(world, f" {people['anna'].id[:9]}").message == "several deliveries begin so"


@pytest.mark.parametrize("typed", ["d-", "d-0", "4", "4f"])
def test_a_slip_of_the_fingers_names_nothing(world: World, people: dict[str, Delivery], typed: str) -> None:
    assert people
    assert "too short" in refused(world, typed).message


@pytest.mark.parametrize(("typed", "meant"), [("ana@example.org", "anna@example.org"), ("bert@exmaple.org", "bert@example.org")])
def test_a_mistyped_address_names_the_one_that_was_meant(world: World, people: dict[str, Delivery], typed: str, meant: str) -> None:
    assert people
    assert refused(world, typed).hint == f"did you mean {meant}?"


def test_a_mistyped_id_names_the_one_that_was_meant(world: World, people: dict[str, Delivery]) -> None:
    wrong = people["carl"].id[:-1] + ("0" if people["carl"].id[-1] != "0" else "1")
    assert people["carl"].id in (refused(world, wrong).hint or "")


def test_the_beginning_of_an_address_is_not_a_name_but_a_suggestion(world: World, people: dict[str, Delivery]) -> None:
    assert people
    assert refused(world, "ann").hint == "did you mean anna@example.org?"
    assert isinstance(refused(world, "zz"), UsageError)


def test_an_unknown_certificate_lists_those_of_the_person(world: World, people: dict[str, Delivery]) -> None:
    assert people
    assert "4f2a90c1 (anna@example.org" in (refused(world, "anna@example.org", "beef").hint or "")
    assert isinstance(refused(world, "anna@example.org", "no hex"), UsageError)
    assert isinstance(refused(world, "beefbeef"), RequestDenied)


def test_two_certificates_with_equal_serial_numbers_are_told_apart_by_their_hash(world: World, people: dict[str, Delivery]) -> None:
    more = draft("anna", certificate="second")
    world.ledger.plan("plan-1", [replace(more, facts=replace(more.facts, serial="4f2a90c1d7"))])
    hint = refused(world, "anna@example.org", "4f2a").hint or ""
    assert people["anna"].certificate_sha256[:16] in hint


def test_of_several_deliveries_the_one_in_question_is_meant(world: World, people: dict[str, Delivery]) -> None:
    (second,) = world.ledger.plan("plan-1", [draft("anna", certificate="second")])
    assert isinstance(second, Delivery)
    with pytest.raises(RequestDenied, match="2 deliveries match") as caught:
        lookup.one(world.ledger, "anna@example.org", {State.PLANNED})
    assert second.id in (caught.value.hint or "")
    world.ledger.withdraw(people["anna"].id, "a test")
    assert lookup.one(world.ledger, "anna@example.org", {State.PLANNED}).id == second.id
    assert lookup.one(world.ledger, "4f2a90c1", {State.PLANNED}).id == people["anna"].id  # what happens to it says its state


def test_a_filter_selects_people_and_ids(world: World, people: dict[str, Delivery]) -> None:
    two = DeliveryFilter(addresses=frozenset({"anna@example.org", "carl@example.org"}))
    assert [people["anna"].id, people["carl"].id] == [delivery.id for delivery in world.ledger.deliveries(two)]
    assert world.ledger.counts(two) == {State.PLANNED: 2}
    one = DeliveryFilter(ids=frozenset({people["bert"].id}))
    assert [people["bert"].id] == [delivery.id for delivery in world.ledger.deliveries(one)]
    assert world.ledger.counts(one) == {State.PLANNED: 1}


def test_completions_are_addresses_and_ids(world: World, people: dict[str, Delivery]) -> None:
    assert world.ledger.completions("") == ["anna@example.org", "bert@example.org", "carl@example.org"]
    assert world.ledger.completions("be") == ["bert@example.org"]
    assert set(world.ledger.completions("d-")) == {delivery.id for delivery in people.values()}
