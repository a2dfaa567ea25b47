"""A large ledger is verified in parts, by child processes: with the same findings, in the same order, as one event after another."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from distributor.ledger import side_by_side
from distributor.model.audit_log import VerificationReport
from tests.ledger import every_row
from tests.ledger.world import World, lifted

EDITS = [
    [],
    ["UPDATE delivery SET said = 'x' WHERE said IS NOT NULL", "UPDATE person SET phone = '1'", "DELETE FROM owner WHERE id = 'nobody'"],
    ["UPDATE event SET \"by\" = 'eve@host' WHERE seq IN (3, 20)", "UPDATE delivery SET profile = 'strong'"],
    ["DELETE FROM event WHERE seq BETWEEN 10 AND 12", "UPDATE certificate SET subject = 'CN=Eve'"],
    ["DELETE FROM event WHERE seq > 40"],
    ["UPDATE event SET personal = NULL, salt = NULL WHERE seq IN (1, 2)"],
]


class Observer:
    """Counts the events that it is shown, and has a finding at one of them."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.waits = True

    def step(self, link: object) -> list[str]:
        self.seen.append(getattr(link, "seq", 0))
        return ["observed"] if len(self.seen) == 5 else []

    def end(self, last: int) -> list[str]:
        return [f"ended at {last}"]


def both(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[VerificationReport, list[int]]]:
    """The reports of one process, and of several, each with what its observer saw."""
    found = []
    for many in (10**9, 1):
        monkeypatch.setattr(side_by_side, "MANY", many)
        observer = Observer()
        found.append((world.ledger.prove([observer]), observer.seen))
    return found


@pytest.mark.skipif(os.cpu_count() == 1, reason="this machine has one processor")
@pytest.mark.parametrize("statements", EDITS, ids=["whole", "rows", "events", "gap", "tail", "erased"])
def test_parts_have_the_findings_of_the_whole(file_url: str, monkeypatch: pytest.MonkeyPatch, statements: list[str]) -> None:
    world = every_row.write(file_url)
    lift, lay = lifted(world)
    world.sql(*lift, *statements, *lay)
    one, several = both(world, monkeypatch)
    assert one == several
    assert one[1][:3] == [1, 2, 3]
    assert bool(set(one[0].findings) - {"observed", f"ended at {one[0].events}"}) is bool(statements)
    world.close()


def test_a_child_that_dies_is_replaced_by_this_process(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = every_row.write(file_url)
    whole = world.ledger.prove()
    monkeypatch.setattr(side_by_side, "MANY", 1)
    monkeypatch.setattr(side_by_side, "_open", os._exit)  # an initializer that ends each child at once: its argument is no number
    assert replace(world.ledger.prove(), notes=()) == replace(whole, notes=())

    world.close()
