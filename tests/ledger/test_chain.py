"""Somebody edits the ledger behind the program's back; `verify` says which event it was."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from sqlalchemy.exc import DBAPIError

from distributor.model.audit_log import ORIGIN, canonical, format_timestamp
from distributor.model.states import State
from distributor.workflows import audit
from tests.ledger.world import World, found, lifted


@pytest.fixture
def full(world: World) -> World:
    """Two accepted messages, one handed over, one planned: twelve events."""
    id_ = world.accepted("anna")
    world.accepted("bert")
    world.ledger.hand_over(id_, "she phoned", "reveal")
    world.plan("cleo")
    assert world.ledger.verify() == []
    return world


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_export_of_stored_texts_is_that_of_decoded_events(full: World, form: str) -> None:
    quick: list[str] = []
    slow: list[str] = []
    audit.export_links(full.ledger.links(), form, quick.append)
    audit.export(full.ledger.records(), form, slow.append)
    assert audit.prove_export(quick) == audit.prove_export(slow)
    assert audit.prove_export(quick).findings == ()
    if form == "jsonl":
        assert list(map(json.loads, quick)) == list(map(json.loads, slow))


def tamper(world: World, *statements: str) -> list[str]:
    """What `verify` says once somebody has lifted the triggers, changed the tables, and put the triggers back."""
    lift, lay = lifted(world)
    return found(world, *lift, *statements, *lay)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET at = '2026-11-24T09:00:00.000001Z'",
        "DELETE FROM event",
        "UPDATE event SET personal = '{}'",
        "UPDATE event SET hash = ''",
    ],
)
def test_the_database_refuses_changes_of_events(full: World, statement: str) -> None:
    with pytest.raises(DBAPIError, match="an event is never"):
        full.sql(f"{statement} WHERE seq = 3")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", "2026-11-24T09:00:00.000001Z"),
        ("by", "somebody@else"),
        ("event", "noted"),
        ("evidence", "{}"),
        ("hash", "0" * 64),
        ("commitment", "0" * 64),
        ("after", "rejected"),
    ],
)
def test_an_edit_is_found_at_its_event(full: World, column: str, value: str) -> None:
    findings = tamper(full, f"""UPDATE event SET "{column}" = '{value}' WHERE seq = 5""")  # noqa: S608  tampering is the point
    assert findings[0].startswith("event 5: ")


def test_an_edit_of_a_personal_field_is_found(full: World) -> None:
    findings = tamper(full, """UPDATE event SET personal = '{"address":"eve@example.org","name":"Eve"}' WHERE seq = 1""")
    assert findings == ["event 1: its personal fields do not match their commitment"]


def test_an_event_given_to_another_delivery_is_found(full: World) -> None:
    findings = tamper(full, "UPDATE event SET delivery = (SELECT delivery FROM event WHERE seq = 6) WHERE seq = 5")
    assert findings[0] == "event 5: its hash does not match its content and the previous event"


def test_a_removal_in_the_middle_is_found(full: World) -> None:
    assert "event 5: follows event 3; an event was removed" in tamper(full, "DELETE FROM event WHERE seq = 4")


def test_the_removal_of_the_last_events_is_found_by_the_head_and_by_the_state(full: World) -> None:
    findings = tamper(full, "DELETE FROM event WHERE seq >= 10")
    assert "event 9: is the last one, but the record of the last event says event 12 or another hash" in findings
    assert any("but its last event in the audit log says" in line for line in findings)


def test_a_removal_that_also_sets_the_head_back_is_found_by_the_state(full: World) -> None:
    findings = tamper(
        full, "DELETE FROM event WHERE seq >= 10", "UPDATE head SET seq = 9, hash = (SELECT hash FROM event WHERE seq = 9) WHERE id = 1"
    )
    assert findings
    assert [line for line in findings if not line.startswith(("delivery d-", "owner me", "person p-"))] == []


def test_an_insertion_is_found_even_with_a_hash_of_its_own(full: World) -> None:
    prev = full.sql("SELECT hash FROM event WHERE seq = 12")[0][0]
    link = {
        "seq": 13,
        "at": format_timestamp(full.clock.now),
        "delivery": None,
        "event": "noted",
        "from": None,
        "to": None,
        "by": "eve",
        "evidence": {},
    }
    hashed = sha256(canonical({**link, "commitment": "", "prev": prev}).encode()).hexdigest()
    findings = tamper(
        full,
        "INSERT INTO event (seq, at, event, by, evidence, commitment, hash) "  # noqa: S608  tampering is the point
        f"VALUES (13, '{link['at']}', 'noted', 'eve', '{{}}', '', '{hashed}')",
    )
    assert findings == ["event 13: is the last one, but the record of the last event says event 12 or another hash"]


def test_two_events_that_changed_places_are_found(full: World) -> None:
    findings = tamper(
        full,
        "UPDATE event SET seq = 100 WHERE seq = 3",
        "UPDATE event SET seq = 3 WHERE seq = 4",
        "UPDATE event SET seq = 4 WHERE seq = 100",
    )
    assert any(line.startswith("event 3: ") for line in findings)
    assert any(line.startswith("event 4: ") for line in findings)


def test_a_state_that_no_event_explains_is_found(full: World) -> None:
    findings = tamper(full, "UPDATE delivery SET state = 'delivered' WHERE state = 'planned'")
    assert len(findings) == 1
    assert findings[0].endswith('is "delivered", but its last event in the audit log says "planned"')


def test_a_delivery_without_events_is_found(full: World) -> None:
    findings = tamper(
        full,
        "INSERT INTO delivery (id, plan, person, certificate, generation, language, locator, state, attempt, deferrals, updated_at) "
        "SELECT 'd-ghost', plan, person, certificate, 9, language, locator, state, attempt, deferrals, updated_at FROM delivery "
        "WHERE state = 'planned'",
    )
    assert findings == ["delivery d-ghost: has no events"]


def test_erasing_a_person_from_events_keeps_the_chain(full: World) -> None:
    findings = found(full, "UPDATE event SET personal = NULL, salt = NULL WHERE seq = 1")
    assert findings == ["event 1: its personal fields are missing, but no event records their erasure"]
    first = next(iter(full.ledger.records()))
    assert (first.personal, first.salt) == (None, None)
    assert "address" not in first.event.evidence


def test_a_record_gives_an_auditor_all_it_takes_to_compute_its_hash(full: World) -> None:
    prev = ORIGIN
    for record in full.ledger.records():
        event = record.event
        personal = {name: event.evidence[name] for name in record.personal or ()}
        public = {name: value for name, value in event.evidence.items() if name not in personal}
        findings = {
            "seq": event.seq,
            "at": format_timestamp(event.at),
            "delivery": event.delivery,
            "event": event.event,
            "by": event.by,
            "evidence": public,
        }
        whole = {**findings, "from": event.before, "to": event.after, "commitment": record.commitment, "prev": prev}
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert record.hash == sha256(text.encode()).hexdigest()
        assert record.prev == prev
        if personal:
            opened = json.dumps(personal, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            assert record.salt is not None
            assert record.commitment == sha256(bytes.fromhex(record.salt) + opened.encode()).hexdigest()
        prev = record.hash
    assert prev == full.sql("SELECT hash FROM head")[0][0]


def test_equal_personal_fields_have_unequal_commitments(world: World) -> None:
    world.queue("anna")
    world.ledger.withdraw(world.plan("bert")[0].id, "left")
    world.ledger.withdraw(world.plan("cleo")[0].id, "left")
    commitments = [record.commitment for record in world.ledger.records() if record.event.event == "withdrawn"]
    assert len(set(commitments)) == 2


def test_names_and_quotes_of_any_script_survive_the_chain(world: World) -> None:
    response = 'x"\\ \u2028 \U0001f600 é 中 </script>'
    claim = world.armed()
    world.ledger.recover(lambda _: False)
    world.ledger.resolve(claim.id, State.ACCEPTED, {"reason": response})
    *_, last = world.ledger.history("anna@example.org")
    assert last.evidence["reason"] == response.replace("\u2028", "\\u2028")
