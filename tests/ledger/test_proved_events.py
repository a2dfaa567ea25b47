"""`verify` proves the events with the rows; what comes meanwhile, and what belongs to no delivery that exists, is looked at too."""

from __future__ import annotations

from contextlib import closing

import pytest

from distributor.ledger import verification
from distributor.ledger.sqlite import sqlite3
from distributor.model.audit_log import Link
from distributor.model.chain_proof import ChainProof
from distributor.model.states import State
from tests.ledger.test_every_column import recompute
from tests.ledger.world import World, lifted


def test_events_that_are_recorded_meanwhile_are_verified_behind_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.queue("anna", "bert")
    ((before,),) = world.sql("SELECT max(seq) FROM event")
    join = verification.join

    def slow(*arguments: object) -> ChainProof | None:
        claim = world.claim()
        assert world.arm(claim)
        assert world.settle(claim, State.ACCEPTED, response="250 ok")
        world.plan("cleo")
        return join(*arguments)  # type: ignore[arg-type]  as it was called

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(verification, "join", slow)
        report = world.ledger.prove()
    assert (report.findings, report.events) == ((), before + 4)


def test_a_chain_that_was_proved_is_not_walked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    walked = list[Link]()
    monkeypatch.setattr(verification.ChainVerifier, "verify_link", lambda _, link: walked.append(link) or [])
    world.accepted("anna")
    assert (world.ledger.prove().findings, walked) == ((), [])


def test_the_events_of_a_delivery_without_a_name_are_found(file_world: World) -> None:
    """Somebody adds them and computes every hash anew."""
    file_world.accepted("anna")
    lift, lay = lifted(file_world)
    file_world.spoiled = True
    with closing(sqlite3.connect(file_world.url.removeprefix("sqlite:///"))) as connection, connection:
        for statement in lift:
            connection.execute(statement)
        columns = "at, '', event, before, after, \"by\", evidence, personal, salt, commitment, hash"
        copied = f"INSERT INTO event SELECT (SELECT max(seq) FROM event) + 1, {columns} FROM event WHERE event = 'planned'"  # noqa: S608
        connection.execute(copied)
        recompute(connection)
        for statement in lay:
            connection.execute(statement)
    assert file_world.ledger.verify() == ['database: a row of "event" refers to a missing row']
