"""How far a mailbox was read is kept for each, and is no event."""

from __future__ import annotations

from tests.ledger.world import World


def test_each_mailbox_has_its_own_position_and_no_event_tells_of_it(world: World) -> None:
    before = world.ledger.position()
    assert world.ledger.mailbox_position("one") is None
    for mailbox, position in (("one", "7:1"), ("two", "8:1"), ("one", "7:2")):
        world.ledger.write_mailbox_position(mailbox, position)
    assert (world.ledger.mailbox_position("one"), world.ledger.mailbox_position("two")) == ("7:2", "8:1")
    assert world.ledger.position() == before


def test_another_process_goes_on_from_there(world: World) -> None:
    world.ledger.write_mailbox_position("one", "7:1")
    assert world.another().mailbox_position("one") == "7:1"
