"""What somebody with the database in his hands does to it behind the program's back, and what `verify` says then."""

from __future__ import annotations

from tests.ledger.world import World


def lifted(world: World) -> tuple[list[str], list[str]]:
    """Statements that take the triggers away, and that put them back."""
    if not world.url.startswith("sqlite"):
        return ["ALTER TABLE event DISABLE TRIGGER ALL"], ["ALTER TABLE event ENABLE TRIGGER ALL"]
    triggers = world.sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    return [f"DROP TRIGGER {name}" for name, _ in triggers], [str(sql) for _, sql in triggers]


def found(world: World, *statements: str) -> list[str]:
    """What `verify` says once somebody has run these statements."""
    world.sql(*statements)
    world.spoiled = True
    return [str(finding) for finding in world.ledger.verify()]
