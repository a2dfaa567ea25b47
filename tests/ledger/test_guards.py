"""The triggers that keep events: `verify` says when one is gone, switched off or another one; a new ledger has them all."""

from __future__ import annotations

from tests.ledger.tampering import found
from tests.ledger.world import World

GONE = "is gone, so events could be changed or removed"
OTHER = "is switched off or another one, so events could be changed or removed"


def names(world: World) -> list[str]:
    """The triggers of events, as the database has them."""
    sqlite = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    server = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'event'::regclass AND NOT tgisinternal"
    return sorted(str(name) for (name,) in world.sql(sqlite if world.url.startswith("sqlite") else server))


def test_every_trigger_that_is_dropped_is_missed(world: World) -> None:
    there = names(world)
    sqlite = world.url.startswith("sqlite")
    assert len(there) == (2 if sqlite else 3)
    if sqlite:
        told = found(world, *(f"DROP TRIGGER {name}" for name in there))
    else:  # the database serves other tests
        world.sql(*(f"ALTER TRIGGER {name} ON event RENAME TO {name}_2" for name in there))
        told = [str(finding) for finding in world.ledger.verify()]
        world.sql(*(f"ALTER TRIGGER {name}_2 ON event RENAME TO {name}" for name in there))
    assert sorted(told) == [f'trigger "{name}": {GONE}' for name in there]


def test_triggers_that_are_switched_off_or_do_nothing_are_found(world: World) -> None:
    if world.url.startswith("sqlite"):
        nothing = "CREATE TRIGGER event_is_never_removed BEFORE DELETE ON event BEGIN SELECT 1; END"
        assert found(world, "DROP TRIGGER event_is_never_removed", nothing) == [f'trigger "event_is_never_removed": {OTHER}']
        return
    world.sql("ALTER TABLE event DISABLE TRIGGER event_is_kept")
    assert world.ledger.verify() == [f'trigger "event_is_kept": {OTHER}']
    world.sql("ALTER TABLE event ENABLE TRIGGER event_is_kept")
    assert world.ledger.verify() == []


def test_a_function_that_lets_everything_pass_is_found(world: World) -> None:
    if world.url.startswith("sqlite"):
        return  # its triggers hold what they do
    (kept,) = world.sql("SELECT prosrc FROM pg_proc WHERE proname = 'event_is_never_changed'")[0]
    make = "CREATE OR REPLACE FUNCTION event_is_never_changed() RETURNS trigger LANGUAGE plpgsql AS $${}$$"
    world.sql(make.format("BEGIN RETURN NULL; END"))
    told = world.ledger.verify()
    world.sql(make.format(kept))
    assert len(told) == 3
    assert all(str(line).endswith(OTHER) for line in told)
