"""Somebody edits what a new generation is made from; none is planned, no password dies, and the words say what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distributor.errors import InvalidInput
from distributor.ledger import planning
from distributor.model.states import PasswordState, State
from tests.ledger.test_message_verification import ERASED, older_note
from tests.ledger.world import World, draft

EDITS = {
    "person's address": "UPDATE person SET address = 'eve@evil.example', key = 'eve@evil.example', name = 'Eve'",
    "person's name": "UPDATE person SET name = 'Eve'",
    "person's phone": "UPDATE person SET phone = '+49 666'",
    "language": "UPDATE delivery SET language = 'fr'",
    "locator": 'UPDATE delivery SET locator = \'{"form": "pkcs12", "parts": [["/evil.pfx", null, "00"]]}\'',
    "plan": "UPDATE delivery SET plan = 'plan-2'",
    "plan's inputs": "UPDATE plan SET inputs = '{\"sources\": [\"/evil\"]}' WHERE id = 'plan-1'",
    "generation": "UPDATE delivery SET generation = 7",
    "state": "UPDATE delivery SET state = 'rejected'",
    "certificate": "UPDATE certificate SET der = (SELECT der FROM authority ORDER BY sha256 LIMIT 1)",
    "certificate's chain": "UPDATE certificate SET chain = '[]'",
    "certificate's serial": "UPDATE certificate SET serial = '00'",
    "certificate's not_after": "UPDATE certificate SET not_after = '2099-01-01T00:00:00.000000Z'",
    "personal fields of its events": ERASED,
}


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "queued"])
@pytest.mark.parametrize(("field", "statement"), EDITS.items(), ids=EDITS)
def test_no_generation_is_made_from_what_was_edited(file_world: World, field: str, statement: str, *, accepted: bool) -> None:
    world = file_world
    world.ledger.begin_plan("plan-2", {"sources": ["/evil"]})
    id_ = world.accepted() if accepted else world.queue("anna")[0]
    password = world.sql("SELECT state, sealed FROM handover")
    world.sql(statement.replace(":", "\\:"))
    world.spoiled = True
    for asked in (lambda: world.ledger.regenerate(id_, "new phone"), lambda: world.ledger.locator(id_)):
        with pytest.raises(InvalidInput, match="the ledger was modified outside distributor") as caught:
            asked()
        error = caught.value
        assert (error.exit_code, error.where) == (3, id_)
        assert field in error.message
        assert error.hint is not None
        assert "distributor audit verify" in error.hint
        assert (f"distributor withdraw {id_} --reason TEXT" in error.hint) == (world.state(id_) is State.QUEUED)
    assert world.sql("SELECT count(*) FROM event WHERE event = 'planned'") == [(1,)]
    assert world.sql("SELECT state, sealed FROM handover") == password


def test_what_a_later_roster_says_of_a_person_goes_into_the_next_generation(world: World) -> None:
    id_ = world.accepted()
    world.ledger.plan("plan-1", [draft("anna", title="Anna Newname")])
    assert world.ledger.regenerate(id_, "new phone").name == "Anna Newname"


def test_what_older_programs_did_not_tell_stops_no_generation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(planning.PlannedDelivery, "note", older_note)
        id_ = world.accepted()
    world.sql("UPDATE person SET phone = '+49 30 1'")
    assert world.ledger.regenerate(id_, "new phone").generation == 2
    old = world.ledger.delivery(id_)
    assert old is not None
    assert old.password_state is PasswordState.DESTROYED


def test_a_delivery_that_was_found_elsewhere_has_a_next_generation(world: World) -> None:
    world.accepted()
    world.ledger.begin_plan("plan-2", {"sources": ["/elsewhere"]})
    moved = replace(draft("anna").locator, parts=(("/elsewhere/anna.pfx", None, "1" * 64),))
    world.ledger.plan("plan-2", [replace(draft("anna"), locator=moved)])
    (id_,) = (str(row[0]) for row in world.sql("SELECT id FROM delivery"))
    assert world.ledger.locator(id_) == ("plan-1", moved)
    assert world.ledger.regenerate(id_, "new phone").generation == 2
